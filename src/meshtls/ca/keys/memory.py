"""CA keys in memory, lost when the process ends."""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.ca.keys.manager import KeyAlgorithm, Slot
from meshtls.ca.profile import Signer
from meshtls.svid.x509 import PrivateKey

__all__ = ["MemoryKeys"]


class MemoryKeys:
    """A KeyManager in memory. Nothing is ever written."""

    def __init__(self, algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> None:
        self._algorithm = algorithm
        self._signers: dict[Slot, Signer] = {}

    def load(self) -> Mapping[Slot, Signer]:
        return dict(self._signers)

    def generate(self, slot: Slot) -> PrivateKey:
        return self._algorithm.generate()

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        self._signers.update(signers)

    def where(self, slot: Slot) -> str:
        return f"the {slot.value} key in memory"

    def close(self) -> None:
        """There is nothing to release."""

    def __repr__(self) -> str:
        return f"<MemoryKeys {self._algorithm.value} [{', '.join(slot.value for slot in self._signers) or 'empty'}]>"
