"""The live connections: how many there may be, and the one place to reach them all.

``limits.connections`` bounds the proven ones: the peer is verified and authorized or, where plaintext is accepted, one
of the two sides has sent something. The others have a bound of their own, at which the oldest are evicted
(``tls/unproven.py``).

A connection's task is not in a TaskGroup, which would end every connection if one failed unexpectedly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from meshtls.errors import PeerError
from meshtls.observe.events import Outcome, outcome_of
from meshtls.observe.live import Live
from meshtls.sidecar.connection import Connection, EndedError, host_of
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.settings import Limits
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.unproven import Unproven, source_of

__all__ = ["Registry"]


class Registry:
    """At most ``limit`` proven connections and ``unproven`` others; ``len`` counts both."""

    def __init__(self, limit: int, unproven: int = Limits().unproven) -> None:
        self.limit = limit
        self.unproven: Unproven[Connection] = Unproven(unproven)
        self._proven = 0
        self._live: set[Connection] = set()
        #: Set when there is none left.
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._live)

    @property
    def full(self) -> bool:
        """No room for another proven connection."""
        return self._proven >= self.limit

    def start(self, connection: Connection, run: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
        """Run the connection; it is listed until ``run`` returns."""
        task = asyncio.get_running_loop().create_task(run(connection))
        self._live.add(connection)
        if connection not in self.unproven:
            self._count(connection)
        task.add_done_callback(lambda _: self.leave(connection))

    def start_unproven(self, connection: Connection, run: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
        """As ``start``, for a connection whose peer is not proven yet; at the limit, another is evicted."""
        oldest = self.unproven.enter(connection, source_of(host_of(connection.remote)))
        connection.unproven = self.unproven
        self.start(connection, run)
        if oldest is not None:
            detail = f"gave way to a newer connection: unproven limit reached (limits.unproven={self.unproven.limit})"
            oldest.end(Outcome.CONNECTION_LIMIT, detail)

    def prove(self, connection: Connection) -> None:
        """Count the connection against ``limit`` from now on. Raises EndedError if that is reached."""
        if connection not in self.unproven:
            return
        if self.full:
            raise self.too_many()
        self.unproven.leave(connection)
        self._count(connection)

    def enter(self, connection: Connection, break_off: Callable[[EndedError], None]) -> None:
        """List a connection without a task until ``leave``; a third party ends it by ``break_off``."""
        connection.break_off = break_off
        self._live.add(connection)
        self._count(connection)

    def leave(self, connection: Connection) -> None:
        connection.break_off = None  # break the reference cycle with the stream, or it waits for the garbage collector
        self._live.discard(connection)
        if connection.unproven is not None:
            self.unproven.leave(connection)
        if connection.counted:
            connection.counted = False
            self._proven -= 1
        if self._emptied is not None and not self._live and not self._emptied.done():
            self._emptied.set_result(None)

    def too_many(self) -> EndedError:
        """The error for a connection that exceeds ``limit``."""
        return EndedError(Outcome.CONNECTION_LIMIT, f"connection limit reached (limits.connections={self.limit})")

    def recheck(self) -> int:
        """Re-check every admitted connection by the present policy and end those that it denies. Returns how many."""
        return sum(_end_refused(connection, connection.recheck_policy()) for connection in list(self._live))

    async def recheck_trust(self, step: Callable[[], Awaitable[None]]) -> int:
        """Re-check every admitted connection by the newest trust and the policy. Returns the number of those ended.

        Connections with the same peer share one verification. It costs as much as a step of a handshake, so ``step``
        waits for a slot before each. New connections are checked when they are admitted.
        """
        of_peer: dict[int, tuple[VerifiedPeer, list[Connection]]] = {}
        for connection in self._live:
            peer = connection.trusted_peer
            if peer is not None:
                of_peer.setdefault(id(peer), (peer, []))[1].append(connection)
        ended = 0
        for _, connections in of_peer.values():
            await step()
            for connection in connections:
                if connection in self._live:
                    ended += _end_refused(connection, connection.recheck())
        return ended

    def of(self, gate: Gate) -> list[Connection]:
        """The connections that came through this gate."""
        return [connection for connection in self._live if connection.gate is gate]

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that live now, in no order."""
        return tuple(self._live)

    def live(self) -> list[Live]:
        """A record of each connection now, with its bytes so far, in the order of their opening."""
        return [connection.live() for connection in sorted(self._live, key=lambda one: one.number)]

    def end_all(self, outcome: Outcome, detail: str) -> None:
        """End every connection with this outcome."""
        for connection in list(self._live):
            connection.end(outcome, detail)

    def end_identified(self, outcome: Outcome, detail: str) -> None:
        """End every connection that uses mutual TLS on one of its sides, or is about to."""
        for connection in list(self._live):
            if connection.engine is not None or connection.is_stream:
                connection.end(outcome, detail)

    async def emptied(self) -> None:
        """Wait until no connection lives."""
        while self._live:
            if self._emptied is None or self._emptied.done():
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def _count(self, connection: Connection) -> None:
        if not connection.counted:  # a stream that is tried again gets a task, and is listed once more
            connection.counted = True
            self._proven += 1

    def __repr__(self) -> str:
        return f"<Registry [{self._proven} of {self.limit} connections, {self.unproven!r}]>"


def _end_refused(connection: Connection, refusal: PeerError | None) -> bool:
    return refusal is not None and connection.end(outcome_of(refusal), refusal.words)
