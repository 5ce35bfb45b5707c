"""The store as this server sees it, in memory, and who has to hear of each change.

Whoever writes calls ``written`` after its commit; where other servers write to the same database, ``follow`` looks for
their changes too. Both read the change log from the revision that is known here, so a change costs with itself and with
the agents that it concerns. Nothing here is newer than the database, and nothing is told before it was committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.clock import Clock, first_of
from meshtls.complaints import Complaints
from meshtls.errors import StoreError
from meshtls.logs import logger
from meshtls.registration import Entry
from meshtls.server.entries import EntryIndex, Node
from meshtls.server.store import bundles, changes, entries
from meshtls.server.store.changes import Change, ChangeKind
from meshtls.server.store.database import Database
from meshtls.server.subscription import Subscription
from meshtls.server.syncing import Told, entries_to_tell, everything
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["REFRESH_HINT", "Hub"]

REFRESH_HINT = 300
_POLL_SECONDS = 0.25
_RETRY_SECONDS = 1.0

log = logger("meshtls.server")


class Hub:
    """``index``, ``bundle`` and ``federated`` as of ``revision``. ``load`` it before use.

    ``expiring`` is set when an entry with an end has come, and another event takes its place. ``trust`` is told each
    new bundle.
    """

    def __init__(
        self, trust_domain: TrustDomain, database: Database, clock: Clock, trust: Callable[[TrustBundle], None]
    ) -> None:
        self.trust_domain = trust_domain
        self._trust = trust
        self.index = EntryIndex(trust_domain)
        self.bundle = TrustBundle(trust_domain)
        self.federated: dict[TrustDomain, TrustBundle] = {}
        self.revision = 0
        self.expiring = asyncio.Event()
        self._database = database
        self._clock = clock
        self._complaints = Complaints(log)
        self._catching_up = asyncio.Lock()
        self._nudged = asyncio.Event()
        self._subscriptions: dict[SpiffeId, set[Subscription]] = {}
        self._nodes: dict[SpiffeId, Node] = {}

    async def load(self) -> None:
        """Read everything. Raises StoreError."""
        async with self._catching_up, self._database.read() as tx:
            await self._load(tx)

    async def catch_up(self) -> None:
        """Take in what was committed since, and wake the agents that it concerns. Raises StoreError."""
        async with self._catching_up, self._database.read() as tx:
            found = await changes.changes_since(tx, self.revision)
            if found and found[0].revision > self.revision + 1:
                await self._load(tx)
                self._wake_all(reload=True)
            elif found:
                await self._take_in(tx, found)

    async def written(self) -> None:
        """Something was committed here: see it before the writer gets its answer.

        It stays written where that fails or the writer is gone; ``follow`` then sees it.
        """
        self._nudged.set()
        try:
            await self.catch_up()
        except StoreError as error:
            log.warning("what was just written can't be read back yet: %s", error)

    async def follow(self) -> None:
        """Take changes in as they come, for ever; a database that is away is asked again."""
        while True:
            await self._until_due()
            self._nudged.clear()
            try:
                await self.catch_up()
            except StoreError as error:
                log.warning("changes can't be read, trying again: %s", error)
                await self._clock.sleep(_RETRY_SECONDS)
                self._nudged.set()

    @contextmanager
    def subscription(self, node: Node) -> Iterator[Subscription]:
        """While this is open the agent's changes are kept for it; open it before asking what it has to hear."""
        opened = Subscription(node)
        self._nodes[node.spiffe_id] = node
        listeners = self._subscriptions.setdefault(node.spiffe_id, set())
        listeners.add(opened)
        try:
            yield opened
        finally:
            listeners.discard(opened)
            if not listeners:
                del self._subscriptions[node.spiffe_id], self._nodes[node.spiffe_id]

    async def told_since(self, node: Node, revision: int) -> Told:
        """What an agent has to hear that heard all up to ``revision``, 0 for nothing. Raises StoreError."""
        async with self._database.read() as tx:
            oldest = await changes.oldest_change(tx)
            found = await changes.changes_since(tx, revision) if revision else []
        forgotten = oldest is None or oldest > revision + 1
        if not revision or revision > self.revision or (forgotten and revision < self.revision):
            return everything(self.index, node)
        return entries_to_tell(self.index, node, found)

    @property
    def listening(self) -> int:
        """How many agents have a sync open."""
        return len(self._subscriptions)

    def __repr__(self) -> str:
        return (
            f"<Hub {self.trust_domain} revision {self.revision} [{len(self.index)} entries, {self.listening} agents]>"
        )

    async def _until_due(self) -> None:
        if not self._database.shared:
            await self._nudged.wait()
            return
        await first_of(self._nudged.wait(), self._clock.sleep(_POLL_SECONDS))

    async def _load(self, tx: AsyncConnection) -> None:
        # The revision first: what is committed while we read is read again, and that does no harm.
        revision = await changes.current_revision(tx)
        index = EntryIndex(self.trust_domain)
        async for entry in entries.all_entries(tx):
            index.put(entry)
        self.index = index
        await self._load_bundles(tx)
        self.revision = revision

    async def _load_bundles(self, tx: AsyncConnection) -> None:
        self.bundle = await bundles.own_bundle(tx, self.trust_domain, REFRESH_HINT)
        self._trust(self.bundle)
        self.federated = {one.trust_domain: one for one in await bundles.federated_bundles(tx)}
        self._complaints.update(BundleSet([self.bundle, *self.federated.values()]).unusable)

    async def _take_in(self, tx: AsyncConnection, found: list[Change]) -> None:
        kinds = {change.kind for change in found}
        keys = {change.key for change in found if change.kind is ChangeKind.ENTRY}
        present = {entry.id: entry for entry in await entries.get_entries(tx, sorted(keys))}
        if ChangeKind.BUNDLE in kinds:
            await self._load_bundles(tx)
            self._wake_all()
        self._take_in_entries([change for change in found if change.kind is ChangeKind.ENTRY], present)
        for change in found:
            if change.kind is ChangeKind.AGENT:
                self._recheck(change)
        self.revision = found[-1].revision

    def _take_in_entries(self, found: list[Change], present: dict[str, Entry]) -> None:
        # All befores are asked before anything is changed: who loses an entry has to hear of it as who gets one does.
        losing = {change: self._concerned(self.index.get(change.key)) for change in found}
        carried = {change for change in found if self.index.has_children(SpiffeId.parse(change.subject))}
        for change in found:
            if change.key in present:
                self.index.put(present[change.key])
            else:
                self.index.remove(change.key)
        if any(entry.expires_at for entry in present.values()):
            self.expiring.set()
            self.expiring = asyncio.Event()
        for change in found:
            carries = change in carried or self.index.has_children(SpiffeId.parse(change.subject))
            for subscription in self._of(losing[change] | self._concerned(present.get(change.key))):
                subscription.tell(change, reload=carries)

    def _concerned(self, entry: Entry | None) -> set[SpiffeId]:
        return self.index.concerned(entry, self._nodes) if entry else set()

    def _recheck(self, change: Change) -> None:
        for subscription in self._of([SpiffeId.parse(change.key)]):
            subscription.wake(recheck=True)

    def _wake_all(self, *, reload: bool = False) -> None:
        for subscription in self._of(self._subscriptions):
            subscription.wake(reload=reload)

    def _of(self, nodes: Iterable[SpiffeId]) -> Iterator[Subscription]:
        for node in nodes:
            yield from self._subscriptions.get(node, ())
