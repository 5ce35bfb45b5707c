"""What the API's services share: the store and what is seen of it, the keys, the clock, the settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from meshtls.clock import Clock
from meshtls.errors import RequestError
from meshtls.registration import Entry
from meshtls.server.access import Gate
from meshtls.server.hub import Hub
from meshtls.server.settings import ServerConfig
from meshtls.server.signing import Signing
from meshtls.server.store.database import Database

__all__ = ["MAX_PAGE", "Core", "lifetime", "page_size"]

MAX_PAGE = 1000
_LONGEST = 10 * 365 * 24 * 3600


@dataclass(slots=True)
class Core:
    """One running server's parts. ``node_roots`` are the CAs that vouch for nodes that attest by certificate; they and
    ``config`` are what a reload exchanges.
    """

    config: ServerConfig
    database: Database
    hub: Hub
    signing: Signing
    gate: Gate
    clock: Clock
    node_roots: tuple[x509.Certificate, ...]

    def x509_life(self, entry: Entry) -> timedelta:
        return timedelta(seconds=entry.x509_svid_ttl) if entry.x509_svid_ttl else self.config.default_x509_svid_ttl

    def jwt_life(self, entry: Entry) -> timedelta:
        return timedelta(seconds=entry.jwt_svid_ttl) if entry.jwt_svid_ttl else self.config.default_jwt_svid_ttl


def lifetime(seconds: int, default: timedelta) -> timedelta:
    """What a caller asked for, 0 for the default. Raises RequestError."""
    if not 0 <= seconds <= _LONGEST:
        raise RequestError(f"TTL of {seconds} s: wanted 0 (the default) to {_LONGEST}")
    return timedelta(seconds=seconds) if seconds else default


def page_size(wanted: int) -> int:
    """How many to list at once. Raises RequestError."""
    if not 0 <= wanted <= MAX_PAGE:
        raise RequestError(f"page size {wanted}: wanted 0 (for {MAX_PAGE}) to {MAX_PAGE}")
    return wanted or MAX_PAGE
