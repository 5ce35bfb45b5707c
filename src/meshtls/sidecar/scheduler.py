"""Schedules the steps of handshakes, so that a burst of new connections does not starve the established ones.

A step of a handshake is half a millisecond of computation during which no byte is relayed. Only a few steps run in each
round of the event loop; in between, bytes flow. A handshake under way goes before one that is about to begin, so that
it finishes before its peer gives up. One step of each round is still reserved for new handshakes: peers that send
theirs slowly must not keep everybody else out.

The wait for a step is our own delay and does not count against the peer (``PeerTimeout``). It has a bound of its own
(``QueueDeadline``): a peer that has waited for so long has mostly given up, and serving it would delay the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError

__all__ = ["HandshakeScheduler", "PeerTimeout", "QueueDeadline", "queue_full"]

_A_ROUND = 4
#: New handshakes that are refused in one round because their deadline has passed: each costs a tenth of a step.
_SENT_AWAY = 16


class QueueDeadline(NamedTuple):
    """A connection may wait in our queue for ``seconds``, which end at ``until`` by the loop's clock."""

    seconds: float
    until: float

    @classmethod
    def of(cls, seconds: float) -> QueueDeadline:
        """The deadline ``seconds`` from now."""
        return cls(seconds, asyncio.get_running_loop().time() + seconds)

    def exhausted(self) -> EndedError:
        return EndedError(
            Outcome.CONNECTION_LIMIT,
            f"handshake queue timeout: no slot within {self.seconds:g} s",
        )


def queue_full(limit: int) -> EndedError:
    """The error for a connection that arrives while ``limits.handshakes`` others wait."""
    return EndedError(Outcome.CONNECTION_LIMIT, f"handshake queue full (limits.handshakes={limit})")


class HandshakeScheduler:
    """Allows ``a_round`` steps in each round of the loop; after that, a connection waits in one of two queues."""

    def __init__(self, loop: asyncio.AbstractEventLoop, a_round: int = _A_ROUND) -> None:
        self._loop = loop
        self._a_round = self._left = a_round
        self._under_way: deque[asyncio.Future[None]] = deque()
        #: The deadline of each, in the order of their arrival. One that is cancelled is removed.
        self._beginners: dict[asyncio.Future[None], float] = {}

    @property
    def waiting(self) -> int:
        """How many wait, in both queues."""
        return len(self._under_way) + len(self._beginners)

    async def begin(self, limit: int, deadline: QueueDeadline) -> None:
        """Wait until a handshake may take its first step.

        Raises EndedError if ``deadline`` passes first, and at once if ``limit`` others wait already.
        """
        if len(self._beginners) >= limit:
            raise queue_full(limit)
        if self._free():
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._beginners[turn] = deadline.until
        try:
            await turn
        finally:
            self._beginners.pop(turn, None)
        if self._loop.time() > deadline.until:
            raise deadline.exhausted()

    async def resume(self) -> None:
        """Wait until a handshake under way may take its next step."""
        if self._free():
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._under_way.append(turn)
        await turn

    def _free(self) -> bool:
        """Take a step now if one is left and nobody waits."""
        if not self._left or self._under_way or self._beginners:
            return False
        self._take()
        return True

    def _take(self) -> None:
        self._left -= 1
        if not self._left:
            self._loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        self._left = self._a_round
        self._send_away()
        while self._left and self.waiting:
            reserved = self._left == 1 and self._beginners
            turn = self._pop() if reserved or not self._under_way else self._under_way.popleft()
            if not turn.done():  # else the waiter has given up
                self._take()
                turn.set_result(None)

    def _pop(self) -> asyncio.Future[None]:
        turn = next(iter(self._beginners))
        del self._beginners[turn]
        return turn

    def _send_away(self) -> None:
        """Wake some of the new handshakes whose deadline has passed, without using up a step."""
        now = self._loop.time()
        for _ in range(_SENT_AWAY):
            if not self._beginners or next(iter(self._beginners.values())) >= now:
                return
            turn = self._pop()
            if not turn.done():
                turn.set_result(None)

    def __repr__(self) -> str:
        return f"<HandshakeScheduler [{self._left} of {self._a_round} left, {self.waiting} waiting]>"


class PeerTimeout:
    """Bounds the seconds that a peer takes for its handshake. An async context manager that raises TimeoutError.

    The timeout is suspended while the peer waits for us, and restarts in full with the first step.
    """

    def __init__(self, seconds: float, scheduler: HandshakeScheduler) -> None:
        self._seconds = seconds
        self._scheduler = scheduler
        self._time = asyncio.get_running_loop().time
        self._deadline = asyncio.timeout(seconds)

    async def __aenter__(self) -> PeerTimeout:
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._deadline.__aexit__(kind, error, trace)

    async def begin(self, limit: int, deadline: QueueDeadline) -> None:
        """As ``HandshakeScheduler.begin``, which raises EndedError."""
        self._deadline.reschedule(None)
        await self._scheduler.begin(limit, deadline)
        self._deadline.reschedule(self._time() + self._seconds)

    async def resume(self) -> None:
        """As ``HandshakeScheduler.resume``."""
        left = self._left()
        self._deadline.reschedule(None)
        await self._scheduler.resume()
        self._deadline.reschedule(self._time() + left)

    def _left(self) -> float:
        until = self._deadline.when()
        return self._seconds if until is None else until - self._time()

    def __repr__(self) -> str:
        return f"<PeerTimeout [{self._left():g} of {self._seconds:g} s left]>"
