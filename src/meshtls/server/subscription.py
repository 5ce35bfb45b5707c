"""One agent's open sync: its pending changes, and whether its access must be checked again."""

from __future__ import annotations

import asyncio

from meshtls.server.entries import Node
from meshtls.server.store.changes import Change

__all__ = ["Subscription"]


class Subscription:
    """One agent's open sync. ``recheck``: the agent's record changed, so its access must be checked again. ``reload``:
    send it everything.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.recheck = False
        self.reload = False
        self._pending: list[Change] = []
        self._woken = asyncio.Event()

    def notify(self, change: Change, *, reload: bool) -> None:
        """Add a change that may affect the agent. ``reload``: it may have moved a whole branch of entries."""
        self._pending.append(change)
        self.wake(reload=reload)

    def wake(self, *, recheck: bool = False, reload: bool = False) -> None:
        """Wake the sync for a change other than an entry's. ``reload``: the agent is sent everything again."""
        self.recheck |= recheck
        self.reload |= reload
        self._woken.set()

    async def wait(self) -> None:
        """Wait until the subscription is woken."""
        await self._woken.wait()

    @property
    def is_woken(self) -> bool:
        """Whether it was woken since the last ``take``."""
        return self._woken.is_set()

    def take(self) -> list[Change]:
        """The changes since the last call. The caller resets ``recheck`` and ``reload``."""
        self._woken.clear()
        taken, self._pending = self._pending, []
        return taken

    def __repr__(self) -> str:
        return f"<Subscription {self.node.spiffe_id} [{len(self._pending)} pending]>"
