"""What this side trusts, as one frozen value: the bundles, and the certificates that their issuers revoked. Pure.

The result of verifying a peer's chain is valid under one ``Trust`` and cached with it. When either part changes there
is a new Trust with the next ``generation``: the cache is dropped, and live connections are verified again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import NamedTuple, Protocol

from cryptography import x509

from meshtls.bundle import BundleSet
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.presented import Presented, spki_of

__all__ = [
    "NO_REVOCATIONS",
    "ListedStatus",
    "RevocationLists",
    "Revocations",
    "RevokedCertificate",
    "Trust",
    "issuer_key_id",
]


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
        """The name of ``certificate``, which the key of ``issuer`` signed."""
        return cls(issuer_key_id(spki_of(issuer)), certificate.serial_number)


class ListedStatus(Enum):
    """What a certificate's issuer says of it in its CRL."""

    GOOD = "good"
    REVOKED = "revoked"


class RevocationLists(Protocol):
    """The CRLs of a Trust: a frozen value that compares by content. ``meshtls.revocation.lists`` implements it."""

    def status(
        self, trust_domain: TrustDomain, one: Presented, issuer: Presented, now: datetime | None, *, is_leaf: bool
    ) -> ListedStatus | str:
        """The status of a certificate whose signature by ``issuer`` was verified. A text says why it is unknown and
        the peer must be refused. With ``now`` None a CRL's times are not checked.
        """

    def next_change(self, now: datetime) -> datetime | None:
        """When the first CRL becomes valid or stale after ``now``; None if none does."""

    def to_der(self) -> tuple[bytes, ...]:
        """The CRLs that the Workload API carries."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """What was revoked.

    - ``certificates``: leaves, and CA certificates below a trust anchor. An anchor has no issuer here.
    - ``spiffe_ids``: no peer with one of these IDs is accepted, whichever certificate it has.
    - ``authorities``: the ``issuer_key_id`` of a root's or an intermediate's key. No path leads through it, even if it
      is in a bundle.
    - ``lists``: CRLs.
    """

    certificates: frozenset[RevokedCertificate] = frozenset()
    spiffe_ids: frozenset[SpiffeId] = frozenset()
    authorities: frozenset[bytes] = frozenset()
    lists: RevocationLists | None = None

    @classmethod
    def of(
        cls,
        certificates: Iterable[RevokedCertificate] = (),
        *,
        spiffe_ids: Iterable[SpiffeId] = (),
        authorities: Iterable[x509.Certificate] = (),
        lists: RevocationLists | None = None,
    ) -> Revocations:
        keys = (issuer_key_id(spki_of(one)) for one in authorities)
        return cls(frozenset(certificates), frozenset(spiffe_ids), frozenset(keys), lists)

    def is_revoked(self, issuer_key: bytes, serial_number: int) -> bool:
        """Whether the certificate with this serial number was revoked; ``issuer_key`` is its issuer's key id."""
        return (issuer_key, serial_number) in self.certificates

    def __repr__(self) -> str:
        parts = [str(len(self.certificates))]
        if self.spiffe_ids:
            parts.append(f"{len(self.spiffe_ids)} IDs")
        if self.authorities:
            parts.append(f"{len(self.authorities)} authorities")
        if self.lists is not None:
            parts.append(repr(self.lists))
        return f"<Revocations [{', '.join(parts)}]>"


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
