"""An in-memory view of the store, and the subscriptions of agents to its changes.

A writer calls ``written`` after its commit. Where other servers write to the same database, ``follow`` polls for their
changes. Both read the change log from the revision of the view on, so the cost of a change grows with the change and
the agents it affects, not with the store. The view is never newer than the database, and agents are notified of
committed changes only.
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
from meshtls.revocation.lists import is_listed, revocations_of
from meshtls.server.entries import EntryIndex, Node
from meshtls.server.store import bundles, changes, entries, federation, revocations
from meshtls.server.store.authorities import list_authorities, tainted_ids
from meshtls.server.store.changes import Change, ChangeKind
from meshtls.server.store.database import Database
from meshtls.server.store.revocations import Blocks
from meshtls.server.subscription import Subscription
from meshtls.server.syncing import Update, full_update, update_for
from meshtls.serverapi.federation import Relation
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.trust import NO_REVOCATIONS

__all__ = ["REFRESH_HINT", "Hub"]

REFRESH_HINT = 300
_POLL_SECONDS = 0.25
_RETRY_SECONDS = 1.0

log = logger("meshtls.server")


class Hub:
    """An in-memory view of the store: ``index``, ``bundle``, ``tainted``, ``federated``, ``relations``, ``blocks``,
    ``crls`` and what those revoke, ``revocations``, as of ``revision``. Call ``load`` before use.

    ``index`` has no entry that is blocked. ``crls`` are those of all servers, in DER. ``revoked`` is set when there is
    something for ``take_revoked``; ``relations_changed`` when ``relations`` or ``federated`` may be others, until the
    reader clears it.

    ``tainted`` are the ids of the authorities whose SVIDs are to be replaced now: tainted and revoked ones.

    ``expiring`` is set, and replaced by a new event, when an entry that expires is created or changed. ``trust`` is
    called with each new bundle. ``failures``: how many times ``catch_up`` has failed.
    """

    def __init__(
        self,
        trust_domain: TrustDomain,
        database: Database,
        clock: Clock,
        trust: Callable[[TrustBundle], None],
    ) -> None:
        self.trust_domain = trust_domain
        self._trust = [trust]
        self.index = EntryIndex(trust_domain)
        self.bundle = TrustBundle(trust_domain)
        self.tainted: tuple[str, ...] = ()
        self.federated: dict[TrustDomain, TrustBundle] = {}
        self.relations: tuple[Relation, ...] = ()
        self.relations_changed = asyncio.Event()
        self.blocks = Blocks()
        self.crls: tuple[bytes, ...] = ()
        self.revision = 0
        self.revoked = asyncio.Event()
        self._to_revoke: list[Subject] = []
        self._tellers: list[Callable[[], None]] = []
        self.revocations = NO_REVOCATIONS
        self.expiring = asyncio.Event()
        self._database = database
        self._clock = clock
        self._complaints = Complaints(log)
        self._catching_up = asyncio.Lock()
        self.failures = 0
        #: When the view was last the store's, and since when a look at the store fails.
        self._caught_up_at = self._clock.monotonic()
        self._failing_since: float | None = None
        self._wakeup = asyncio.Event()
        self._subscriptions: dict[SpiffeId, set[Subscription]] = {}
        self._nodes: dict[SpiffeId, Node] = {}

    def also_trust(self, trust: Callable[[TrustBundle], None]) -> None:
        """Call this one, too, with the present bundle and each new one."""
        self._trust.append(trust)
        trust(self.bundle)

    async def load(self) -> None:
        """Read the whole store. Raises StoreError."""
        async with self._catching_up, self._database.read() as tx:
            await self._load(tx)

    async def catch_up(self) -> None:
        """Apply what was committed since, and notify the agents that it affects. Raises StoreError."""
        began = self._clock.monotonic()
        try:
            await self._catch_up()
        except StoreError:
            self.failures += 1
            self._failing_since = began if self._failing_since is None else self._failing_since
            raise
        self._caught_up_at, self._failing_since = began, None

    @property
    def lag(self) -> float:
        """Seconds for which the view may not be the store's: since the last ``catch_up`` where other servers may write
        to it, else since the first one that failed.
        """
        since = self._caught_up_at if self._database.shared else self._failing_since
        return 0.0 if since is None else self._clock.monotonic() - since

    async def _catch_up(self) -> None:
        async with self._catching_up, self._database.read() as tx:
            found = await changes.changes_since(tx, self.revision)
            if found and found[0].revision > self.revision + 1:
                await self._load(tx)
                self._wake_all(reload=True)
            elif found:
                await self._apply(tx, found)

    async def written(self) -> None:
        """Catch up after a commit of this server, so that a writer sees its own change in the view.

        If that fails, or the writer is cancelled, the change stays committed and ``follow`` catches up.
        """
        self._wakeup.set()
        try:
            await self.catch_up()
        except StoreError as error:
            log.warning("a committed change can't be read back yet: %s", error)

    async def follow(self) -> None:
        """Catch up with each change, forever; retry while the database is unavailable."""
        while True:
            if self._database.shared:  # other servers write to it, too
                await first_of(self._wakeup.wait(), self._clock.sleep(_POLL_SECONDS))
            else:
                await self._wakeup.wait()
            self._wakeup.clear()
            try:
                await self.catch_up()
            except StoreError as error:
                log.warning("changes can't be read, retrying: %s", error)
                await self._clock.sleep(_RETRY_SECONDS)
                self._wakeup.set()

    @contextmanager
    def subscription(self, node: Node) -> Iterator[Subscription]:
        """Collect the agent's changes while this is open. Open it before ``update_since``, so that none is missed."""
        opened = Subscription(node)
        self._nodes[node.spiffe_id] = node
        subscriptions = self._subscriptions.setdefault(node.spiffe_id, set())
        subscriptions.add(opened)
        try:
            yield opened
        finally:
            subscriptions.discard(opened)
            if not subscriptions:
                del self._subscriptions[node.spiffe_id], self._nodes[node.spiffe_id]

    async def update_since(self, node: Node, revision: int) -> Update:
        """The update for an agent that has everything up to ``revision``, 0 for nothing. Raises StoreError."""
        async with self._database.read() as tx:
            oldest = await changes.oldest_change(tx)
            found = await changes.changes_since(tx, revision) if revision else []
        forgotten = oldest is None or oldest > revision + 1
        if not revision or revision > self.revision or (forgotten and revision < self.revision):
            return full_update(self.index, node)
        return update_for(self.index, node, found)

    def take_revoked(self) -> list[Subject]:
        """What was revoked or readmitted since the last call, by any server; clears ``revoked``."""
        self.revoked.clear()
        taken, self._to_revoke = self._to_revoke, []
        return taken

    def revoke_again(self, subjects: Iterable[Subject]) -> None:
        """Return what could not be carried out, for the next ``take_revoked``."""
        self._to_revoke += subjects
        self.revoked.set()

    @contextmanager
    def told_of_revocations(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call ``tell`` whenever something was revoked or readmitted, by any server, while the body runs."""
        self._tellers.append(tell)
        try:
            yield
        finally:
            self._tellers.remove(tell)

    def is_revoked(self, serial_number: int) -> bool:
        """Whether a CRL of a server lists this certificate of ours: serial numbers are unique among the servers."""
        return is_listed(self.revocations, serial_number)

    @property
    def subscribers(self) -> int:
        """The number of agents with an open sync."""
        return len(self._subscriptions)

    def __repr__(self) -> str:
        return (
            f"<Hub {self.trust_domain} revision {self.revision} [{len(self.index)} entries, {self.subscribers} agents]>"
        )

    async def _load(self, tx: AsyncConnection) -> None:
        # Read the revision first: a change committed meanwhile is then applied twice, which is harmless.
        revision = await changes.current_revision(tx)
        self.blocks = await revocations.read_blocks(tx)
        index = EntryIndex(self.trust_domain)
        async for entry in entries.all_entries(tx):
            if entry not in self.blocks:
                index.put(entry)
        self.index = index
        await self._load_relations(tx)
        await self._load_bundles(tx)
        self.revision = revision

    async def _load_relations(self, tx: AsyncConnection) -> None:
        self.relations = tuple(await federation.read_relations(tx))
        self.relations_changed.set()

    async def _load_bundles(self, tx: AsyncConnection) -> None:
        self.bundle = await bundles.own_bundle(tx, self.trust_domain, REFRESH_HINT)
        self.tainted = tainted_ids(await list_authorities(tx))
        self.crls = tuple(one.der for one in await revocations.read_crls(tx))
        self.revocations = revocations_of(self.crls)
        for trust in self._trust:
            trust(self.bundle)
        self.federated = {one.trust_domain: one for one in await bundles.federated_bundles(tx)}
        self.relations_changed.set()
        self._complaints.update(BundleSet([self.bundle, *self.federated.values()]).unusable)

    async def _apply(self, tx: AsyncConnection, found: list[Change]) -> None:
        kinds = {change.kind for change in found}
        keys = {change.key for change in found if change.kind is ChangeKind.ENTRY}
        if ChangeKind.REVOCATION in kinds:
            self.blocks = await revocations.read_blocks(tx)
            for tell in self._tellers:
                tell()
            named = (one.key.partition(" ") for one in found if one.kind is ChangeKind.REVOCATION)
            self.revoke_again(Subject(SubjectKind(kind), name) for kind, _, name in named)
        present = {one.id: one for one in await entries.get_entries(tx, sorted(keys)) if one not in self.blocks}
        if kinds & {ChangeKind.BUNDLE, ChangeKind.CRL}:
            await self._load_bundles(tx)
            self._wake_all()
        if ChangeKind.FEDERATION in kinds:
            await self._load_relations(tx)
        self._apply_entries([change for change in found if change.kind is ChangeKind.ENTRY], present)
        for change in found:
            if change.kind is ChangeKind.AGENT:
                for subscription in self._of([SpiffeId.parse(change.key)]):
                    subscription.wake(recheck=True)
        self.revision = found[-1].revision

    def _apply_entries(self, found: list[Change], present: dict[str, Entry]) -> None:
        # Compute affected agents before and after the change: an agent that loses an entry must be notified too.
        before = {change: self._affected(self.index.get(change.key)) for change in found}
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
            for subscription in self._of(before[change] | self._affected(present.get(change.key))):
                subscription.notify(change, reload=carries)

    def _affected(self, entry: Entry | None) -> set[SpiffeId]:
        return self.index.affected(entry, self._nodes) if entry else set()

    def _wake_all(self, *, reload: bool = False) -> None:
        for subscription in self._of(self._subscriptions):
            subscription.wake(reload=reload)

    def _of(self, nodes: Iterable[SpiffeId]) -> Iterator[Subscription]:
        for node in nodes:
            yield from self._subscriptions.get(node, ())
