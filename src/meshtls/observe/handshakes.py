"""The messages of the newest handshakes, for operators. Bounded. Pure.

One handshake a second is noted, in each direction, so that it costs nothing under load; and of those that ended well
and those that did not, the newest few are kept, each in a place of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from meshtls.observe.events import Direction
from meshtls.wire.transcript import Transcript

__all__ = ["Handshake", "Handshakes"]

_KEPT, _SECONDS = 3, 1.0


class Handshake(NamedTuple):
    """``finished``: the peer was verified and authorized by it. ``ended`` is when it was over."""

    connection_id: str
    direction: Direction
    ended: datetime
    finished: bool
    transcript: Transcript


class Handshakes:
    """``begin`` gives a transcript to fill, or None where the last one is too recent; ``end`` keeps it."""

    def __init__(self) -> None:
        self._begun: dict[Direction, float] = {}
        self._kept: dict[tuple[Direction, bool], deque[Handshake]] = {}

    def begin(self, direction: Direction, now: float) -> Transcript | None:
        """``now`` is the seconds of a monotonic clock."""
        if now - self._begun.get(direction, now - _SECONDS) < _SECONDS:
            return None
        self._begun[direction] = now
        return Transcript()

    def end(self, one: Handshake) -> None:
        self._kept.setdefault((one.direction, one.finished), deque(maxlen=_KEPT)).append(one)

    def __iter__(self) -> Iterator[Handshake]:
        """The newest first."""
        kept = [one for found in self._kept.values() for one in found]
        return iter(sorted(kept, key=lambda one: one.ended, reverse=True))
