"""Bytes of a TCP stream that arrived before others that belong in front of them. Pure.

They are kept as runs: contiguous, apart from each other, in order. Each insertion makes at most one run and merges
those that it touches, so that the work is linear in what was inserted. Where two segments have the same position, the
first one counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["Chunk", "Inserted", "Run", "Runs"]

#: What keeping one chunk costs besides its bytes.
_OVERHEAD = 160


class Chunk(NamedTuple):
    """Part of a run: ``length`` bytes at ``offset``, of which only ``data`` was captured.

    ``number``, ``time_ns``: of the packet that they came in.
    """

    offset: int
    length: int
    data: bytes
    number: int
    time_ns: int


class Inserted(NamedTuple):
    """What became of a segment: bytes that no earlier one had, and whether others differ from earlier ones."""

    new: int
    differs: bool


class Run:
    """Bytes from ``start`` to ``end`` without a hole."""

    __slots__ = ("chunks", "end", "start")

    def __init__(self, start: int, end: int, chunks: list[Chunk]) -> None:
        self.start, self.end, self.chunks = start, end, chunks

    def differs(self, offset: int, data: bytes) -> bool:
        """Whether these bytes, which lie within the run, are other than its own, as far as those were captured."""
        at, end, chunks = max(bisect_right(self.chunks, offset, key=_offset) - 1, 0), offset + len(data), self.chunks
        while at < len(chunks) and chunks[at].offset < end:
            start, ours = chunks[at].offset, chunks[at].data
            low, high = max(start, offset), min(start + len(ours), end)
            if low < high and ours[low - start : high - start] != data[low - offset : high - offset]:
                return True
            at += 1
        return False


class Runs:
    """The runs of one direction of a connection. Offsets are relative to a ``base`` that the caller chose.

    - ``cost``: bytes of memory that they use, about.
    """

    __slots__ = ("_starts", "base", "cost", "runs")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._starts: list[int] = []
        self.base = 0
        self.cost = 0

    def __bool__(self) -> bool:
        return bool(self.runs)

    @property
    def end(self) -> int:
        """Where the last run ends; 0 if there is none."""
        return self.runs[-1].end if self.runs else 0

    def beginning(self, size: int) -> bytes:
        """The first captured bytes, at most ``size``, up to where one was not captured."""
        found = b""
        for chunk in self.runs[0].chunks if self.runs else ():
            found += chunk.data[: size - len(found)]
            if len(chunk.data) < chunk.length or len(found) >= size:
                break
        return found

    def insert(self, offset: int, length: int, data: bytes, number: int, time_ns: int) -> Inserted:
        """Add ``length`` bytes at ``offset``, of which ``data`` were captured, in this packet at this time."""
        runs, end, cursor = self.runs, offset + length, offset
        first = max(bisect_right(self._starts, offset) - 1, 0)
        if first < len(runs) and runs[first].end < offset:
            first += 1
        start, new, differs, last = offset, 0, False, first
        chunks: list[Chunk] = []
        while last < len(runs) and runs[last].start <= end:
            run = runs[last]
            if cursor < run.start:
                new += self._append(
                    chunks,
                    Chunk(cursor, run.start - cursor, data[cursor - offset : run.start - offset], number, time_ns),
                )
            low, high = max(offset, run.start), min(run.end, offset + len(data))
            differs = differs or (low < high and run.differs(low, data[low - offset : high - offset]))
            if not chunks:
                start, chunks = run.start, run.chunks
            elif len(run.chunks) > len(chunks):
                run.chunks[:0] = chunks
                chunks = run.chunks
            else:
                chunks += run.chunks
            cursor = max(cursor, run.end)
            last += 1
        if cursor < end:
            new += self._append(chunks, Chunk(cursor, end - cursor, data[cursor - offset :], number, time_ns))
        runs[first:last] = [Run(start, max(cursor, end), chunks)]
        self._starts[first:last] = [start]
        return Inserted(new, differs)

    def pop(self, most: int) -> Run:
        """Remove the first run, or only its first ``most`` bytes if it is longer."""
        run = self.runs.pop(0)
        limit = run.start + most
        del self._starts[0]
        self.cost -= _cost(run.chunks)
        if run.end <= limit:
            return run
        rest = Run(limit, run.end, list(_between(run.chunks, limit, run.end)))
        self.runs.insert(0, rest)
        self._starts.insert(0, limit)
        self.cost += _cost(rest.chunks)
        return Run(run.start, limit, list(_between(run.chunks, run.start, limit)))

    def cut(self, offset: int) -> None:
        """Forget what is before ``offset``."""
        end = self.end
        kept = list(_between((chunk for run in self.runs for chunk in run.chunks), offset, end))
        self.clear()
        for chunk in kept:
            self.insert(*chunk)

    def clear(self) -> None:
        """Forget all."""
        self.runs, self._starts, self.cost = [], [], 0

    def _append(self, chunks: list[Chunk], chunk: Chunk) -> int:
        chunks.append(chunk)
        self.cost += len(chunk.data) + _OVERHEAD
        return chunk.length


def _between(chunks: Iterable[Chunk], begin: int, end: int) -> Iterator[Chunk]:
    """The parts of chunks from ``begin`` to ``end``."""
    for offset, length, data, number, time_ns in chunks:
        low, high = max(offset, begin), min(offset + length, end)
        if low < high:
            yield Chunk(low, high - low, data[low - offset : high - offset], number, time_ns)


def _cost(chunks: Iterable[Chunk]) -> int:
    return sum(len(chunk.data) + _OVERHEAD for chunk in chunks)


def _offset(chunk: Chunk) -> int:
    return chunk.offset
