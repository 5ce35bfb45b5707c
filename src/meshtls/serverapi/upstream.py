"""What a server learns from the authority above it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from meshtls.bundle import JwtAuthority

__all__ = ["UpstreamBundle", "UpstreamCa", "UpstreamKey"]


@dataclass(frozen=True, slots=True)
class UpstreamCa:
    """A CA that an upstream authority signed: ``chain`` is that CA and what leads from it to one of ``roots``."""

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class UpstreamKey:
    """A key that verifies JWT-SVIDs."""

    key: JwtAuthority
    ends_at: datetime
    tainted: bool


@dataclass(frozen=True, slots=True)
class UpstreamBundle:
    """The authorities of the trust domain as the upstream authority has them.

    - ``tainted``: those of ``roots`` whose SVIDs are to be replaced now.
    - ``keys``: those of JWT-SVIDs, by ``kid``; None where the upstream authority has none.
    - ``issuer``: the subject key identifier of what would sign the next CA; empty if that is not known.
    - ``complete``: a root that is not in it is revoked.
    - ``crls``: those of the servers above, in DER; None if they are not known.
    """

    roots: tuple[x509.Certificate, ...]
    tainted: frozenset[x509.Certificate] = frozenset()
    keys: Mapping[str, UpstreamKey] | None = None
    issuer: str = ""
    complete: bool = False
    crls: tuple[bytes, ...] | None = None
