"""The connections that live now: how many there may be, and the one way to reach them all.

A connection's task is kept here and not in a TaskGroup: a TaskGroup would end every connection for the unforeseen
failure of one. Such a failure is still seen: it goes to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import Connection

__all__ = ["Registry"]


class Registry:
    """At most ``limit`` connections; ``len`` of it says how many there are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._live: dict[asyncio.Task[None], Connection] = {}
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
        self._live[task] = connection
        self._empty.clear()
        task.add_done_callback(self._done)

    def recheck(self) -> int:
        """Ask every admitted connection's authorizer again and end those now forbidden; how many they were."""
        ended = 0
        for connection in self._live.values():
            refusal = connection.recheck()
            if refusal:
                ended += connection.end(Outcome.POLICY_DENIED, str(refusal))
        return ended

    def end_all(self, outcome: Outcome, detail: str) -> None:
        """End every connection with this outcome."""
        for connection in self._live.values():
            connection.end(outcome, detail)

    async def emptied(self) -> None:
        """Wait until no connection lives."""
        await self._empty.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        connection = self._live.pop(task)
        if not self._live:
            self._empty.set()
        if not task.cancelled() and (error := task.exception()):
            task.get_loop().call_exception_handler(
                {"message": f"sidecar {connection.sidecar}: a connection failed", "exception": error, "task": task}
            )

    def __repr__(self) -> str:
        return f"<Registry [{len(self)} of {self.limit} connections]>"
