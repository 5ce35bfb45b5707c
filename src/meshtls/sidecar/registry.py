"""The connections that live now: how many there may be, and the one way to reach them all.

A connection's task is not in a TaskGroup: that would end every connection for the unforeseen
failure of one. Such a failure is still seen: it goes to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import Connection

__all__ = ["Registry"]


class Registry:
    """At most ``limit`` connections; ``len`` of it says how many there are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._live: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._live)

    @property
    def full(self) -> bool:
        return len(self._live) >= self.limit

    def start(self, connection: Connection, run: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
        """Run the connection; it is listed until ``run`` returns."""
        task = asyncio.get_running_loop().create_task(run(connection))
        self.enter(connection)
        task.add_done_callback(partial(self._done, connection))

    def enter(self, connection: Connection) -> None:
        """List a connection that no task carries, until ``leave``."""
        self._live.add(connection)
        self._empty.clear()

    def leave(self, connection: Connection) -> None:
        self._live.discard(connection)
        if not self._live:
            self._empty.set()

    def recheck(self) -> int:
        """Ask every admitted connection's authorizer again and end those now forbidden; how many they were."""
        ended = 0
        for connection in list(self._live):
            refusal = connection.recheck()
            if refusal:
                ended += connection.end(Outcome.POLICY_DENIED, str(refusal))
        return ended

    def end_all(self, outcome: Outcome, detail: str) -> None:
        """End every connection with this outcome."""
        for connection in list(self._live):
            connection.end(outcome, detail)

    def end_identified(self, outcome: Outcome, detail: str) -> None:
        """End every connection that is mutual TLS on one of its sides, or is about to be."""
        for connection in list(self._live):
            if connection.engine is not None or connection.tunnel:
                connection.end(outcome, detail)

    async def emptied(self) -> None:
        """Wait until no connection lives."""
        await self._empty.wait()

    def _done(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self.leave(connection)
        if not task.cancelled() and (error := task.exception()):
            task.get_loop().call_exception_handler(
                {"message": f"sidecar {connection.sidecar}: a connection failed", "exception": error, "task": task}
            )

    def __repr__(self) -> str:
        return f"<Registry [{len(self)} of {self.limit} connections]>"
