"""An agent's sync: the entries and bundles that it needs, in full or from a revision on, then each change."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.clock import first_of
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.server.entries import Node
from meshtls.server.hub import Hub
from meshtls.server.operations.permission import check_role
from meshtls.server.subscription import Subscription
from meshtls.server.syncing import Update, full_update, update_for
from meshtls.serverapi.values import SyncUpdate
from meshtls.spiffeid import TrustDomain
from meshtls.svid.verify import VerifiedPeer

__all__ = ["sync"]

_HEARTBEAT_SECONDS = 30.0


async def sync(core: Core, caller: Caller, revision: int = 0) -> AsyncGenerator[SyncUpdate]:
    """The update for an agent that has everything up to ``revision`` (0: nothing), then each change as it happens.

    Without changes there is an empty update every 30 seconds. The stream never ends by itself. Raises AccessError and
    ValidityError as soon as the agent is no longer admitted, StoreError if the store can't be read.
    """
    check_role(caller, "sync", Role.AGENT)
    agent, peer = caller.as_agent()
    with core.hub.subscription(Node.of(agent)) as subscription:
        # A ban that was committed before the subscription opened did not wake it: check the agent once more.
        subscription.recheck = True
        updates = _Updates(core.hub, subscription)
        await _check(core, subscription, peer)
        yield await updates.first(revision)
        while True:
            await first_of(subscription.wait(), core.clock.sleep(_HEARTBEAT_SECONDS))
            heartbeat = not subscription.is_woken
            await _check(core, subscription, peer)
            update = updates.next()
            if heartbeat or update.whole or update.entries or update.removed or update.bundles:
                yield update


async def _check(core: Core, subscription: Subscription, peer: VerifiedPeer) -> None:
    core.authenticator.check_current(peer)
    if subscription.recheck:
        subscription.recheck = False
        await core.authenticator.agent(peer)
    core.authenticator.check_not_revoked(peer)


class _Updates:
    """Tracks which bundles the agent's entries need, and what was sent, so that only what has changed is sent again."""

    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self._hub = hub
        self._subscription = subscription
        self._federation: dict[str, tuple[TrustDomain, ...]] = {}
        self._sent: tuple[list[TrustBundle], tuple[bytes, ...]] = [], ()

    async def first(self, revision: int) -> SyncUpdate:
        """The first update for an agent that has everything up to ``revision``, 0 for nothing. Raises StoreError."""
        told = await self._hub.update_since(self._subscription.node, revision)
        serving = self._hub.index.reachable(self._subscription.node)
        self._federation = {key: entry.federates_with for key, entry in serving.items()}
        return self._update(told)

    def next(self) -> SyncUpdate:
        """The changes since the last update; only the revision if there are none."""
        reload, self._subscription.reload = self._subscription.reload, False
        changes = self._subscription.take()
        node, index = self._subscription.node, self._hub.index
        told = full_update(index, node) if reload else update_for(index, node, changes)
        if told.whole:
            self._federation.clear()
        for key in told.removed:
            self._federation.pop(key, None)
        self._federation |= {entry.id: entry.federates_with for entry in told.entries}
        return self._update(told)

    def _update(self, told: Update) -> SyncUpdate:
        wanted = sorted({domain for domains in self._federation.values() for domain in domains})
        federated = self._hub.federated
        bundles = [self._hub.bundle, *(federated[domain] for domain in wanted if domain in federated)]
        changed = (bundles, self._hub.crls) != self._sent
        self._sent = bundles, self._hub.crls
        return SyncUpdate(
            revision=self._hub.revision,
            whole=told.whole,
            entries=told.entries,
            removed=told.removed,
            bundles=BundleSet(bundles) if changed else None,
            tainted=self._hub.tainted if changed else (),
            crls=self._hub.crls if changed else (),
        )
