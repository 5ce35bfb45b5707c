"""Schedules callers fairly on one event loop: received bytes are queued, and each iteration handles some of them.

Otherwise a connection that sends 64 KiB of small frames would occupy the loop until all are handled, and a caller with
200 connections 200 times as long. Callers are served round robin, and so are the connections of each. Authenticated
callers have a separate queue, so that no number of other callers is ahead of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Protocol

__all__ = ["Reader", "Turns"]


class Reader(Protocol):
    """A connection with received bytes to handle."""

    def step(self) -> bool:
        """Handle some bytes; return whether there are more to handle now."""


class Turns:
    """The scheduler that the listeners of one event loop share."""

    def __init__(self) -> None:
        self._proven: _Queue = _Queue()
        self._unproven: _Queue = _Queue()
        self._scheduled = False

    def enqueue(self, reader: Reader, caller: Hashable, *, proven: bool) -> None:
        """Call ``step`` soon, and again until it returns False. The reader must not be queued already."""
        (self._proven if proven else self._unproven).put(caller, reader)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        try:
            for queue in (self._proven, self._unproven):
                queue.step()
        finally:
            if self._proven or self._unproven:
                self._schedule()


class _Queue:
    """Round robin over callers, and over the connections of each."""

    def __init__(self) -> None:
        self._callers: dict[Hashable, deque[Reader]] = {}
        self._ring: deque[Hashable] = deque()

    def put(self, caller: Hashable, reader: Reader) -> None:
        waiting = self._callers.get(caller)
        if waiting is None:
            waiting = self._callers[caller] = deque()
            self._ring.append(caller)
        waiting.append(reader)

    def step(self) -> None:
        if not self._ring:
            return
        caller = self._ring.popleft()
        waiting = self._callers[caller]
        reader = waiting.popleft()
        try:
            if reader.step():
                waiting.append(reader)
        finally:
            if waiting:
                self._ring.append(caller)
            else:
                del self._callers[caller]

    def __bool__(self) -> bool:
        return bool(self._ring)
