"""What a scrape asks the data store: how many entries and agents it has, its authorities, and the audit trail's head.

However many scrapes there are, the store is asked once in two seconds, by one question at a time, which has so long to
answer that a scraper gets the rest of the metrics while the store hangs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from meshtls.clock import Clock
from meshtls.errors import StoreError
from meshtls.registration import EntryFilter
from meshtls.server.store import agents, audit, authorities, entries
from meshtls.server.store.agents import AgentCounts
from meshtls.server.store.authorities import AuthorityRecord
from meshtls.server.store.database import Database

__all__ = ["AskedStore", "StoreFacts"]

_FRESH = 2.0
_LONGEST = 3.0


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store at one moment. ``audit_records`` is the number of the newest one."""

    entries: int
    agents: AgentCounts
    authorities: tuple[AuthorityRecord, ...]
    audit_records: int


class AskedStore:
    """Call ``ask`` before a scrape, and read ``facts``: None where the store did not answer."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.facts: StoreFacts | None = None
        self._database = database
        self._clock = clock
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    async def ask(self) -> None:
        """Never raises."""
        async with self._asking:
            if self._asked_at is not None and self._clock.monotonic() - self._asked_at < _FRESH:
                return
            try:
                async with asyncio.timeout(_LONGEST):
                    self.facts = await self._read()
            except (StoreError, TimeoutError):
                self.facts = None
            self._asked_at = self._clock.monotonic()

    async def _read(self) -> StoreFacts:
        async with self._database.read() as tx:
            return StoreFacts(
                await entries.count_entries(tx, EntryFilter()),
                await agents.count_agents(tx, self._clock.now()),
                tuple(await authorities.list_authorities(tx)),
                (await audit.read_head(tx, lock=False)).number,
            )
