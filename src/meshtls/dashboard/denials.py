"""Denials, grouped by what denied them. Bounded, also in what one process adds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtls.dashboard.reading import size_of
from meshtls.observe.events import Outcome

__all__ = ["Denial", "Denials", "DryRuns"]

Line = Mapping[str, Any]
_MOST_GROUPS, _MOST_SOURCES, _MOST_DRY_RUNS = 500, 50, 200
#: Bytes of groups and callers that the records of one process add (``size_of``).
_MOST_BYTES = 2 << 20
OTHER = "(others)"
#: A clause says what was wanted, and after this what came.
_GOT = ", got "


@dataclass(slots=True)
class Denial:
    """What one policy, or one rule of TLS, denied to the callers of one destination. ``line`` is the newest record.

    ``mixed``: the denials that found no group of their own any more; they have the outcome in common, and nothing else.
    """

    line: Line
    mixed: bool = False
    count: int = 0
    requests: int = 0
    first: str = ""
    last: str = ""
    sources: Counter[str] = field(default_factory=Counter)


class Denials:
    """Denials in groups, with how many there were. ``take`` is given each denied record once."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], Denial] = {}
        self._added: Counter[str] = Counter()

    def take(self, process: str, line: Line) -> None:
        """Count a denied record of ``process``. Where it has added too much already, its denials are counted under
        OTHER.
        """
        names = ("outcome", "policy", "rule", "clause", "destination_id")
        # A caller that refused the server decided by its own configuration: that is a group of its own.
        decided = ("source_id",) if line.get("direction") == "outbound" else ()
        values = {name: str(line.get(name) or "") for name in (*names, *decided)}
        # What a caller asked for is its own choice, and no reason for another group.
        values["clause"] = values["clause"].partition(_GOT)[0]
        key = tuple(values.values())
        if key not in self._groups and not (len(self._groups) < _MOST_GROUPS and self._adds(process, line)):
            outcome = str(line.get("outcome"))
            key = (outcome if outcome in Outcome.__members__ else OTHER, OTHER)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Denial(line, mixed=key[1] == OTHER)
        moment = str(line.get("time") or "")
        group.line, group.last, group.first = line, moment, group.first or moment
        group.count += 1
        group.requests += "method" in line
        source = str(line.get("source_id") or "(no proven identity)")
        known = source in group.sources or (len(group.sources) < _MOST_SOURCES and self._adds(process, source))
        group.sources[source if known else OTHER] += 1

    def _adds(self, process: str, what: object) -> bool:
        size = self._added[process] + size_of(what)
        if size > _MOST_BYTES:
            return False
        self._added[process] = size
        return True

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
