"""One agent's sync as the messages that it is told: full at first or from where it left off, then what changed."""

from __future__ import annotations

from meshtls.bundle import TrustBundle
from meshtls.proto import server_pb
from meshtls.server.hub import Hub
from meshtls.server.subscription import Subscription
from meshtls.server.syncing import Told, entries_to_tell, everything
from meshtls.serverapi.messages import bundle_message, entry_message
from meshtls.spiffeid import TrustDomain

__all__ = ["SyncStream", "says_something"]


def says_something(message: server_pb.SyncResponse) -> bool:
    """Whether there is more in it than a revision."""
    return bool(message.whole or message.entries or message.removed or message.bundles)


class SyncStream:
    """Keeps which bundles the agent's entries need and which it was sent, so that only a change is sent again."""

    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self._hub = hub
        self._subscription = subscription
        self._federation: dict[str, tuple[TrustDomain, ...]] = {}
        self._sent: list[TrustBundle] = []

    async def first(self, revision: int) -> server_pb.SyncResponse:
        """For an agent that heard all up to ``revision``, 0 for nothing. Raises StoreError."""
        told = await self._hub.told_since(self._subscription.node, revision)
        serving = self._hub.index.reachable(self._subscription.node)
        self._federation = {key: entry.federates_with for key, entry in serving.items()}
        return self._message(told)

    def next(self) -> server_pb.SyncResponse:
        """What has changed since the last message; nothing but the revision where nothing has."""
        reload, self._subscription.reload = self._subscription.reload, False
        changes = self._subscription.take()
        node, index = self._subscription.node, self._hub.index
        told = everything(index, node) if reload else entries_to_tell(index, node, changes)
        if told.whole:
            self._federation.clear()
        for key in told.removed:
            self._federation.pop(key, None)
        self._federation |= {entry.id: entry.federates_with for entry in told.entries}
        return self._message(told)

    def _message(self, told: Told) -> server_pb.SyncResponse:
        bundles = self._bundles()
        changed = bundles != self._sent
        self._sent = bundles
        return server_pb.SyncResponse(
            revision=self._hub.revision,
            whole=told.whole,
            entries=map(entry_message, told.entries),
            removed=told.removed,
            bundles=map(bundle_message, bundles if changed else ()),
        )

    def _bundles(self) -> list[TrustBundle]:
        wanted = sorted({domain for domains in self._federation.values() for domain in domains})
        federated = self._hub.federated
        return [self._hub.bundle, *(federated[domain] for domain in wanted if domain in federated)]
