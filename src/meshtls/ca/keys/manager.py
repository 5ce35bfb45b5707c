"""The interface between the authority and the storage of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtls.ca.profile import Signer
from meshtls.ca.tlog.note import NoteSigner
from meshtls.svid.x509 import PrivateKey

__all__ = ["NEEDED", "KeyAlgorithm", "KeyManager", "Slot"]


class Slot(Enum):
    """The CA's keys. The intermediate before the present one signs no leaf any more, only CRLs, until it ends."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    PREVIOUS = "previous"


#: Those without which a CA can't sign.
NEEDED = (Slot.ROOT, Slot.INTERMEDIATE)


class KeyAlgorithm(Enum):
    """The kind of CA key to generate. Stored keys of another kind are used as they are."""

    P256 = "ec-p256"
    P384 = "ec-p384"
    RSA2048 = "rsa-2048"
    RSA4096 = "rsa-4096"

    def generate(self) -> PrivateKey:
        if self is KeyAlgorithm.P256:
            return ec.generate_private_key(ec.SECP256R1())
        if self is KeyAlgorithm.P384:
            return ec.generate_private_key(ec.SECP384R1())
        return rsa.generate_private_key(public_exponent=65537, key_size=self.rsa_bits)

    @property
    def rsa_bits(self) -> int:
        """The size of an RSA key. Raises ValueError for EC."""
        return int(self.value.removeprefix("rsa-"))


class KeyManager(Protocol):
    """Generates and stores signing keys, in memory, on disk or in a PKCS#11 token.

    Of a key, only ``public_key`` and ``sign`` are used: one in a token has nothing else (``token_keys``).
    """

    def load(self) -> Mapping[Slot, Signer]:
        """The stored keys: those ``NEEDED`` and others, or none at the first start.

        Raises ConfigError if they can't be used.
        """

    def generate(self, slot: Slot) -> PrivateKey:
        """Generate a key for this slot. It is not stored until ``save`` is called with its certificate."""

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        """Store these, replacing their slots. Raises ConfigError if that fails; the old ones then stay."""

    def log_key(self) -> NoteSigner:
        """The key that signs the transparency log's checkpoints, generated and stored at the first call.

        Raises ConfigError if it can't be used or stored.
        """

    def where(self, slot: Slot) -> str:
        """The place of this slot, such as a file's path, for a message."""

    def close(self) -> None:
        """Release the storage for another process."""
