"""Cuts a stream of bytes into lines, and keeps in step with it across a line that is too long. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

__all__ = ["MAX_LINE", "LineCutter", "Oversized"]

MAX_LINE = 1 << 20


class Oversized(Enum):
    """Stands for a line that was dropped."""

    LINE = "a line over the limit"


class LineCutter:
    """``feed`` gives each complete line without its end; ``finish`` gives what was left without one.

    Of a line over ``limit`` bytes nothing is kept: ``Oversized.LINE`` comes once, as soon as that is clear.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | Oversized]:
        *complete, rest = data.split(b"\n")
        for piece in complete:
            yield from self._take(piece)
            if not self._skipping:
                yield bytes(self._rest)
            self._rest.clear()
            self._skipping = False
        yield from self._take(rest)

    def finish(self) -> Iterator[bytes | Oversized]:
        if self._rest:
            yield bytes(self._rest)
        self._rest.clear()

    def _take(self, piece: bytes) -> Iterator[Oversized]:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > self._limit:
            self._rest.clear()
            self._skipping = True
            yield Oversized.LINE
        else:
            self._rest += piece
