"""What a session was given while it waits for its secrets, in the order in which it came. Bounded. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from meshtls.capture.memory import Level, MemoryShare
from meshtls.wire.tls.records import Record

__all__ = ["Waiting", "WaitingQueue"]

T = TypeVar("T")
#: Memory of an entry, besides its bytes.
_ENTRY_BYTES = 256


class Waiting(NamedTuple, Generic[T]):
    """One thing that came of a direction, at ``time_ns``: bytes, records that were cut already, the number of bytes
    that are lost, or None for its end.
    """

    direction: T
    what: bytes | list[Record] | int | None
    time_ns: int


class WaitingQueue(Generic[T]):
    """Falsy while nothing waits. ``bytes``: of what does. ``entries``: what does."""

    __slots__ = ("_level", "bytes", "entries")

    def __init__(self, memory: MemoryShare) -> None:
        self.entries: deque[Waiting[T]] = deque()
        self._level = Level(memory)
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def first(self) -> Waiting[T]:
        """What came first."""
        return self.entries[0]

    def add(self, *entries: Waiting[T]) -> bool:
        """Let these bytes wait, too. False if there is no memory for them: then none may wait any longer."""
        self.entries += entries
        self.bytes += sum(map(_size, entries))
        return self._level.to(self.bytes)

    def taken(self) -> Iterator[Waiting[T]]:
        """All that waits, which now waits no more."""
        entries, self.entries = self.entries, deque()
        self.bytes = 0
        self._level.to(0)
        while entries:
            yield entries.popleft()


def _size(entry: Waiting[T]) -> int:
    what = entry.what
    if isinstance(what, list):
        return _ENTRY_BYTES + sum(len(record.payload) + _ENTRY_BYTES for record in what)
    return _ENTRY_BYTES + (len(what) if isinstance(what, bytes) else 0)
