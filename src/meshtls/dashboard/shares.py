"""How many bytes of records each process has in a store: one that sends large ones loses its own oldest. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtls.dashboard.reading import size_of

__all__ = ["Shares"]

Line = Mapping[str, Any]


@dataclass(slots=True)
class _Share:
    """The records of one process by their ``id()``, the oldest first, each with its key and its size."""

    held: OrderedDict[int, tuple[str, Line, int]] = field(default_factory=OrderedDict)
    size: int = 0


class Shares:
    """``hold`` and ``release`` keep the account of a store; ``excess`` is what has to leave it. ``most``: bytes of one
    process.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._shares: dict[str, _Share] = {}
        self._owners: dict[int, _Share] = {}

    def hold(self, process: str, key: str, line: Line) -> None:
        """The store keeps this record, under this key."""
        share = self._shares.setdefault(process, _Share())
        size = size_of(line)
        share.held[id(line)] = key, line, size
        share.size += size
        self._owners[id(line)] = share

    def release(self, line: Line) -> None:
        """The store no longer keeps it."""
        share = self._owners.pop(id(line), None)
        if share is not None:
            share.size -= share.held.pop(id(line))[2]

    def excess(self, process: str) -> Iterator[tuple[str, Line]]:
        """The oldest records that this process has too many of, with their keys. They are released."""
        share = self._shares[process]
        while share.size > self._most:
            key, line, _ = next(iter(share.held.values()))
            self.release(line)
            yield key, line

    def size(self, process: str) -> int:
        """Bytes that the records of a process take."""
        share = self._shares.get(process)
        return share.size if share is not None else 0
