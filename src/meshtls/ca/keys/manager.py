"""The interface between the authority and the storage of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtls.ca.profile import Signer
from meshtls.svid.x509 import PrivateKey

__all__ = ["KeyAlgorithm", "KeyManager", "Slot"]


class Slot(Enum):
    """The two CA keys."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


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
        return rsa.generate_private_key(public_exponent=65537, key_size=int(self.value.removeprefix("rsa-")))


class KeyManager(Protocol):
    """Generates and stores signing keys. A key needs only ``public_key`` and ``sign``, so it may be in a token."""

    def load(self) -> Mapping[Slot, Signer]:
        """The stored keys: both slots, or none at the first start. Raises ConfigError if they can't be used."""

    def generate(self, slot: Slot) -> PrivateKey:
        """Generate a key for this slot. It is not stored until ``save`` is called with its certificate."""

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        """Store these, replacing their slots. Raises ConfigError if that fails; the old ones then stay."""

    def where(self, slot: Slot) -> str:
        """The place of this slot, such as a file's path, for a message."""

    def close(self) -> None:
        """Release the storage for another process."""
