"""One agent's open sync: what it has still to hear, and that it must be looked at anew."""

from __future__ import annotations

import asyncio

from meshtls.server.entries import Node
from meshtls.server.store.changes import Change

__all__ = ["Subscription"]


class Subscription:
    """``recheck`` says that the agent itself changed: whether it may still listen has to be asked again."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.recheck = False
        self.reload = False
        self._pending: list[Change] = []
        self._woken = asyncio.Event()

    def tell(self, change: Change, *, reload: bool) -> None:
        """This change may concern the agent; with ``reload`` it may have moved a whole branch of entries."""
        self._pending.append(change)
        self.wake(reload=reload)

    def wake(self, *, recheck: bool = False, reload: bool = False) -> None:
        """Something that is no entry changed; with ``reload`` the agent is to hear everything anew."""
        self.recheck |= recheck
        self.reload |= reload
        self._woken.set()

    async def woken(self) -> None:
        """Wait until there is something to look at."""
        await self._woken.wait()

    @property
    def awake(self) -> bool:
        """Whether there is something to look at now."""
        return self._woken.is_set()

    def take(self) -> list[Change]:
        """What has come since the last call; the marks are the caller's to reset."""
        self._woken.clear()
        taken, self._pending = self._pending, []
        return taken

    def __repr__(self) -> str:
        return f"<Subscription {self.node.spiffe_id} [{len(self._pending)} pending]>"
