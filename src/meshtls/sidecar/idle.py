"""Ends relays through which no byte has moved for too long, with one timer for all that share a timeout.

A timer for each connection would cost two operations on the loop's heap, and a quarter of a KiB while it is idle. The
price is that an end may come late by an eighth of the timeout.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["IdleWatch", "Idler"]

_LOOKS = 8


class Idler(Protocol):
    """What may be idle."""

    #: When a byte last moved, by the loop's clock.
    last: float

    def end_idle(self, timeout: float) -> None:
        """End it: it was idle for more than ``timeout`` seconds."""


class IdleWatch:
    """The idlers of one loop. Each is checked eight times within its timeout."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._groups: dict[float, set[Idler]] = {}

    def add(self, one: Idler, timeout: float) -> None:
        """Watch it; ``timeout`` is in seconds."""
        group = self._groups.get(timeout)
        if group is None:
            group = self._groups[timeout] = set()
            self._loop.call_later(timeout / _LOOKS, self._look, timeout)
        group.add(one)

    def remove(self, one: Idler, timeout: float) -> None:
        """Watch it no more."""
        group = self._groups.get(timeout)
        if group is not None:
            group.discard(one)

    def _look(self, timeout: float) -> None:
        group = self._groups[timeout]
        if not group:
            del self._groups[timeout]
            return
        self._loop.call_later(timeout / _LOOKS, self._look, timeout)
        since = self._loop.time() - timeout
        for one in [one for one in group if one.last < since]:
            group.discard(one)
            one.end_idle(timeout)

    def __repr__(self) -> str:
        return f"<IdleWatch { ({timeout: len(group) for timeout, group in self._groups.items()}) }>"
