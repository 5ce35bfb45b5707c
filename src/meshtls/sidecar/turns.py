"""Handshakes take turns, so that a storm of new connections does not starve those that are there.

A step of a handshake is half a millisecond of arithmetic during which nothing else moves. A few of them are let through
for each round of the event loop; in between, bytes flow. A handshake that is under way goes before one that is to
begin, so that what was started gets finished while its peer is still there. One turn of each round is a beginner's all
the same: peers that dribble their handshakes must not keep everybody else out.

The wait for a turn is our own slowness and does not count as the peer's (``PeerTime``). It has a bound of its own
(``Patience``): who has waited for so long has mostly gone, and to serve him would make the next one late, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.per_loop import PerLoop

__all__ = ["Patience", "PeerTime", "Turns", "queue_full", "turns"]

_A_ROUND = 4
#: Beginners that are sent away in one round for having waited too long: each costs a tenth of a step.
_SENT_AWAY = 16


class Patience(NamedTuple):
    """``seconds`` that a connection may wait for us; they are over at ``until``, by the loop's clock."""

    seconds: float
    until: float

    @classmethod
    def of(cls, seconds: float) -> Patience:
        """It begins now."""
        return cls(seconds, asyncio.get_running_loop().time() + seconds)

    def exhausted(self) -> EndedError:
        return EndedError(
            Outcome.CONNECTION_LIMIT,
            f"its handshake could not begin within {self.seconds:g} s: too many others were before it",
        )


def queue_full(limit: int) -> EndedError:
    """For the one too many: ``limits.handshakes`` wait already."""
    return EndedError(Outcome.CONNECTION_LIMIT, f"limits.handshakes, which is {limit}, wait for their turn")


class Turns:
    """``a_round`` steps for each round of the loop; those who come when they are taken wait in one of two queues."""

    def __init__(self, loop: asyncio.AbstractEventLoop, a_round: int = _A_ROUND) -> None:
        self._loop = loop
        self._a_round = self._left = a_round
        self._under_way: deque[asyncio.Future[None]] = deque()
        #: Until when each waits; those first that came first. One that gives up is in it no more.
        self._beginners: dict[asyncio.Future[None], float] = {}

    @property
    def waiting(self) -> int:
        """How many wait, in both queues."""
        return len(self._under_way) + len(self._beginners)

    async def begin(self, limit: int, patience: Patience) -> None:
        """Wait for the turn of a handshake's first step.

        Raises EndedError where ``patience`` ends before, and at once where ``limit`` wait already.
        """
        if len(self._beginners) >= limit:
            raise queue_full(limit)
        if self._free():
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._beginners[turn] = patience.until
        try:
            await turn
        finally:
            self._beginners.pop(turn, None)
        if self._loop.time() > patience.until:
            raise patience.exhausted()

    async def go_on(self) -> None:
        """Wait for the turn of another step."""
        if self._free():
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._under_way.append(turn)
        await turn

    def _free(self) -> bool:
        """Take a turn that is left and that nobody waits for."""
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
            turn = self._next()
            if not turn.done():  # else who waited has given up
                self._take()
                turn.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        reserved = self._left == 1 and self._beginners
        return self._pop() if reserved or not self._under_way else self._under_way.popleft()

    def _pop(self) -> asyncio.Future[None]:
        turn = next(iter(self._beginners))
        del self._beginners[turn]
        return turn

    def _send_away(self) -> None:
        """Wake some of those who have waited for too long; it costs the others no turn."""
        now = self._loop.time()
        for _ in range(_SENT_AWAY):
            if not self._beginners or next(iter(self._beginners.values())) >= now:
                return
            turn = self._pop()
            if not turn.done():
                turn.set_result(None)

    def __repr__(self) -> str:
        return f"<Turns [{self._left} of {self._a_round} left, {self.waiting} waiting]>"


#: The running loop's.
turns: PerLoop[Turns] = PerLoop(Turns)


class PeerTime:
    """The seconds that a peer may take for its handshake: ``async with`` it, and it raises TimeoutError.

    They stand still while the peer waits for us, and begin anew with the first turn.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._time = asyncio.get_running_loop().time
        self._deadline = asyncio.timeout(seconds)

    async def __aenter__(self) -> PeerTime:
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._deadline.__aexit__(kind, error, trace)

    async def begin(self, limit: int, patience: Patience) -> None:
        """``Turns.begin``; raises EndedError as that does."""
        self._deadline.reschedule(None)
        await turns().begin(limit, patience)
        self._deadline.reschedule(self._time() + self._seconds)

    async def go_on(self) -> None:
        """``Turns.go_on``."""
        left = self._left()
        self._deadline.reschedule(None)
        await turns().go_on()
        self._deadline.reschedule(self._time() + left)

    def _left(self) -> float:
        until = self._deadline.when()
        return self._seconds if until is None else until - self._time()

    def __repr__(self) -> str:
        return f"<PeerTime [{self._left():g} of {self._seconds:g} s left]>"
