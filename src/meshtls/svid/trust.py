"""What this side trusts, as one frozen value: the bundles, and the certificates that their issuers revoked. Pure.

The result of verifying a peer's chain is valid under one ``Trust`` and cached with it. When either part changes there
is a new Trust with the next ``generation``: the cache is dropped, and live connections are verified again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography import x509

from meshtls.bundle import BundleSet
from meshtls.svid.presented import spki_of

__all__ = ["NO_REVOCATIONS", "Revocations", "RevokedCertificate", "Trust", "issuer_key_id"]


def issuer_key_id(spki: bytes) -> bytes:
    """SHA-256 of a SubjectPublicKeyInfo in DER (RFC 7093, section 2, method 4).

    Computed from the key that verified the signature. A certificate's own key identifiers are its issuer's choice.
    """
    return sha256(spki).digest()


class RevokedCertificate(NamedTuple):
    """An issuer and a serial number, which together name one certificate (RFC 5280, section 4.1.2.2)."""

    issuer_key_id: bytes
    serial_number: int

    @classmethod
    def of(cls, certificate: x509.Certificate, issuer: x509.Certificate) -> RevokedCertificate:
        """``certificate``, which the key of ``issuer`` signed."""
        return cls(issuer_key_id(spki_of(issuer)), certificate.serial_number)


@dataclass(frozen=True, slots=True)
class Revocations:
    """The certificates that were revoked: leaves, and CA certificates below a trust anchor.

    An anchor has no issuer here. It is revoked by taking it out of its bundle.
    """

    certificates: frozenset[RevokedCertificate] = frozenset()

    @classmethod
    def of(cls, certificates: Iterable[RevokedCertificate]) -> Revocations:
        return cls(frozenset(certificates))

    def is_revoked(self, issuer_key: bytes, serial_number: int) -> bool:
        """Whether the certificate with this serial number was revoked; ``issuer_key`` is its issuer's key id."""
        return (issuer_key, serial_number) in self.certificates

    def __repr__(self) -> str:
        return f"<Revocations [{len(self.certificates)}]>"


NO_REVOCATIONS = Revocations()


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """``generation`` counts the changes of the other two, and does not count in comparisons.

    It is not the generation of an X509Context, which grows with each SVID as well.
    """

    generation: int
    bundles: BundleSet
    revocations: Revocations = NO_REVOCATIONS

    def followed_by(self, bundles: BundleSet, revocations: Revocations) -> Trust:
        """This Trust if nothing has changed, so that its cache is kept; otherwise the next one."""
        if bundles == self.bundles and revocations == self.revocations:
            return self
        return Trust(self.generation + 1, bundles, revocations)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trust):
            return NotImplemented
        return self.bundles == other.bundles and self.revocations == other.revocations

    __hash__ = None  # type: ignore[assignment]  # bundles are not hashable

    def __repr__(self) -> str:
        return f"<Trust [gen {self.generation}, {self.bundles!r}, {self.revocations!r}]>"
