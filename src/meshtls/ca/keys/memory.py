"""CA keys in memory, lost when the process ends."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshtls.ca.keys.manager import KeyAlgorithm, Slot
from meshtls.ca.profile import Signer
from meshtls.ca.tlog.note import NoteSigner
from meshtls.svid.x509 import PrivateKey

__all__ = ["MemoryKeys"]


class MemoryKeys:
    """A KeyManager in memory. Nothing is ever written."""

    def __init__(self, algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> None:
        self._algorithm = algorithm
        self._signers: dict[Slot, Signer] = {}
        self._log_key: Ed25519PrivateKey | None = None

    def load(self) -> Mapping[Slot, Signer]:
        return dict(self._signers)

    def generate(self, slot: Slot) -> PrivateKey:
        return self._algorithm.generate()

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        self._signers.update(signers)

    def log_key(self) -> NoteSigner:
        if self._log_key is None:
            self._log_key = Ed25519PrivateKey.generate()
        return self._log_key

    def where(self, slot: Slot) -> str:
        return f"the {slot.value} key in memory"

    def close(self) -> None:
        """There is nothing to release."""

    def __repr__(self) -> str:
        return f"<MemoryKeys {self._algorithm.value} [{', '.join(slot.value for slot in self._signers) or 'empty'}]>"
