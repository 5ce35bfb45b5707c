"""Shared by the operations: the store and the view of it, the keys, the clock, the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.clock import Clock
from meshtls.errors import RequestError
from meshtls.server.access import Authenticator
from meshtls.server.audit import AuditTrail
from meshtls.server.authorities import Authorities
from meshtls.server.hub import Hub
from meshtls.server.ledger import Ledger
from meshtls.server.revoking import Revoking
from meshtls.server.settings import ServerConfig
from meshtls.server.signing import Signing
from meshtls.server.store.database import Database
from meshtls.server.transparency import TransparencyLog

__all__ = ["MAX_PAGE", "Core", "lifetime", "page_size"]

MAX_PAGE = 1000
_LONGEST = 10 * 365 * 24 * 3600


@dataclass(slots=True)
class Core:
    """The parts of one running server. ``node_roots`` are the CAs of nodes that attest by certificate. A reload
    replaces them and ``config``.
    """

    config: ServerConfig
    database: Database
    hub: Hub
    signing: Signing
    authorities: Authorities
    revoking: Revoking
    ledger: Ledger
    log: TransparencyLog
    trail: AuditTrail
    authenticator: Authenticator
    clock: Clock
    node_roots: tuple[x509.Certificate, ...]

    @property
    def troubles(self) -> tuple[str, ...]:
        """What the server can't do, though it answers: keep changes, or sign."""
        return tuple(filter(None, (self.database.not_written, *self.signing.not_signed.values())))

    @asynccontextmanager
    async def change(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of the store. After the commit the hub applies the changes and wakes the agents concerned,
        before this ends. Raises StoreError.
        """
        async with self.database.write() as tx:
            yield tx
        await self.hub.written()


def lifetime(seconds: int, default: timedelta) -> timedelta:
    """A requested TTL in seconds, 0 for the default. Raises RequestError."""
    if not 0 <= seconds <= _LONGEST:
        raise RequestError(f"TTL of {seconds} s: wanted 0 (the default) to {_LONGEST}")
    return timedelta(seconds=seconds) if seconds else default


def page_size(wanted: int) -> int:
    """A requested page size, 0 for the largest. Raises RequestError."""
    if not 0 <= wanted <= MAX_PAGE:
        raise RequestError(f"page size {wanted}: wanted 0 (for {MAX_PAGE}) to {MAX_PAGE}")
    return wanted or MAX_PAGE
