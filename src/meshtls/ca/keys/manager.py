"""The seam between the authority and the place that keeps its keys."""

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
    """What kind of CA key to make; keys that are there already are used as they are."""

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
    """Makes and keeps signing keys. A key it gives needs only ``public_key`` and ``sign``: it may stay in a token."""

    def load(self) -> Mapping[Slot, Signer]:
        """What is kept: both slots, or none of them at the first start. Raises ConfigError where they can't be used."""

    def generate(self, slot: Slot) -> PrivateKey:
        """A new key for this slot; not kept before ``save`` gets it with its certificate."""

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        """Keep these in place of what their slots held. Raises ConfigError where that fails; the old ones then stay."""

    def where(self, slot: Slot) -> str:
        """The place of this slot in words for a message: a file's path."""

    def close(self) -> None:
        """Give the place free for another process."""
