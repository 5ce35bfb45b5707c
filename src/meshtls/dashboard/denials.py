"""Denials, grouped by what denied them. Bounded. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Denial", "Denials", "DryRuns"]

Line = Mapping[str, Any]
_MOST_GROUPS, _MOST_SOURCES, _MOST_DRY_RUNS = 500, 50, 200
OTHER = "(others)"


@dataclass(slots=True)
class Denial:
    """What one policy, or one rule of TLS, denied to the callers of one destination. ``line`` is the newest record."""

    line: Line
    count: int = 0
    requests: int = 0
    first: str = ""
    last: str = ""
    sources: Counter[str] = field(default_factory=Counter)


class Denials:
    """``take`` is given each denied record once."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], Denial] = {}

    def take(self, line: Line) -> None:
        key = tuple(str(line.get(name) or "") for name in ("outcome", "policy", "rule", "clause", "destination_id"))
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            key = (str(line.get("outcome")), OTHER)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Denial(line)
        moment = str(line.get("time") or "")
        group.line, group.last, group.first = line, moment, group.first or moment
        group.count += 1
        group.requests += "method" in line
        source = str(line.get("source_id") or "(no proven identity)")
        group.sources[source if source in group.sources or len(group.sources) < _MOST_SOURCES else OTHER] += 1

    def __iter__(self) -> Iterator[Denial]:
        """The most frequent first."""
        return iter(sorted(self._groups.values(), key=lambda one: (-one.count, one.last)))


class DryRuns:
    """What policies in dry run would have said, by their words."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, Line]] = {}

    def take(self, line: Line) -> None:
        for text in line.get("shadow") or ():
            known = str(text) if str(text) in self._found or len(self._found) < _MOST_DRY_RUNS else OTHER
            count, _ = self._found.get(known, (0, line))
            self._found[known] = count + 1, line

    def __iter__(self) -> Iterator[tuple[str, int, Line]]:
        """Words, how often, and the newest record; the most frequent first."""
        return iter(sorted(((text, *found) for text, found in self._found.items()), key=lambda one: -one[1]))
