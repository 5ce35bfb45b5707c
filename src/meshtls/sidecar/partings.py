"""Lingers on refused sockets that no connection's task ends: those of pools."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from meshtls.sidecar.connection import Parting
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import linger

__all__ = ["Partings"]


class Partings:
    """Refused sockets that linger. ``add`` takes one, and ``linger`` closes it after a bounded time; ``over`` waits for
    all of them.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, parting: Parting) -> None:
        """Send what is unsent, and close once the peer has read it."""
        task = asyncio.get_running_loop().create_task(linger(parting.sock, self._poller, parting.unsent))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, parting.sock))

    async def over(self) -> None:
        """Wait for all; each is bounded in time. Cancelling this closes them now."""
        if self._tasks:
            await asyncio.gather(*self._tasks)

    def _done(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        sock.close()  # also where it was cancelled before its first step

    def __repr__(self) -> str:
        return f"<Partings [{len(self._tasks)}]>"
