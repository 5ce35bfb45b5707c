"""Handshakes take turns, so that a storm of new connections does not starve those that are there.

A step of a handshake is half a millisecond of arithmetic during which nothing else moves. A few of them are let through
for each round of the event loop, in the order in which they came; in between, bytes flow.
"""

from __future__ import annotations

import asyncio
from collections import deque

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.per_loop import PerLoop

__all__ = ["Turns", "turns"]

_A_ROUND = 4


class Turns:
    """``a_round`` steps for each round of the loop; those who come when they are taken wait in a queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop, a_round: int = _A_ROUND) -> None:
        self._loop = loop
        self._a_round = self._left = a_round
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def begin(self, limit: int) -> None:
        """Wait for the turn of a handshake's first step. Raises EndedError where ``limit`` wait already."""
        if len(self._waiting) >= limit:
            raise EndedError(Outcome.CONNECTION_LIMIT, f"limits.handshakes, which is {limit}, wait for their turn")
        await self.go_on()

    async def go_on(self) -> None:
        """Wait for the turn of another step."""
        if self._left and not self._waiting:
            self._take()
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _take(self) -> None:
        self._left -= 1
        if not self._left:
            self._loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        self._left = self._a_round
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else who waited has given up
                self._take()
                turn.set_result(None)

    def __repr__(self) -> str:
        return f"<Turns [{self._left} of {self._a_round} left, {len(self._waiting)} waiting]>"


#: The running loop's.
turns: PerLoop[Turns] = PerLoop(Turns)
