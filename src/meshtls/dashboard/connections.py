"""The connections that the dashboard knows of: those that live, and the newest that ended, both sides together. Pure.

Bounded: anyone can cause denials and failures, so each verdict has a place of its own, and a client chooses the ID of a
connection, so one ID keeps few records. A process that sends large records loses its own oldest ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtls.dashboard.reading import size_of
from meshtls.dashboard.shares import Shares
from meshtls.observe.events import Verdict

__all__ = ["Connections", "Known", "Line"]

#: A record of ``/connections`` or ``/tap``: what one sidecar says of one connection or request.
Line = Mapping[str, Any]
_MOST = 10_000
_MOST_REFUSED = 4_000
_LINES_OF_ONE, _REQUESTS_OF_ONE = 8, 32
_MOST_LIVE = 50_000
#: Bytes of one process (``size_of``): of what ended, and of what lives.
_MOST_BYTES, _MOST_LIVE_BYTES = 8 << 20, 16 << 20
#: What tells the requests of one connection apart.
_OF_A_REQUEST = ("time", "sidecar", "method", "host", "path", "status")
_DENIED, _FAILED, _ALLOWED = Verdict.DENIED.value, Verdict.FAILED.value, Verdict.ALLOWED.value


@dataclass(slots=True)
class Known:
    """All records with one connection ID. ``number`` orders them by when the newest came."""

    connection_id: str
    number: int
    lines: list[Line] = field(default_factory=list)
    requests: list[Line] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Denied if a side denied it: the other side then only knows that it failed. Of a connection that was allowed,
        that of its requests, as ``admin.story`` tells it.
        """
        for lines in (self.lines, self.requests):
            verdicts = {str(one.get("verdict")) for one in lines}
            if found := [one for one in (_DENIED, _FAILED) if one in verdicts]:
                return found[0]
        return _ALLOWED

    def has(self, line: Line) -> bool:
        """Whether this record came before, such as from another page of the same process."""
        return any(
            one.get("time") == line.get("time")
            and one.get("sidecar") == line.get("sidecar")
            and one.get("direction") == line.get("direction")
            for one in self.lines
        )

    def has_request(self, line: Line) -> bool:
        """The same of a request."""
        return any(all(one.get(name) == line.get(name) for name in _OF_A_REQUEST) for one in self.requests)


class Connections:
    """The connections and requests of all processes. ``ended`` and ``request`` take records; ``live`` replaces what one
    process says that lives.
    """

    def __init__(self, most: int = _MOST, most_refused: int = _MOST_REFUSED, most_bytes: int = _MOST_BYTES) -> None:
        self._most = {_ALLOWED: most, _DENIED: most_refused, _FAILED: most_refused}
        self._known: dict[str, dict[str, Known]] = {verdict: {} for verdict in self._most}
        self._live: dict[str, dict[int, Line]] = {}
        self._live_bytes: dict[str, int] = {}
        self._shares = Shares(most_bytes)
        self._number = 0

    def ended(self, process: str, line: Line) -> bool:
        """False for a record that is here already."""
        connection_id = str(line.get("connection_id"))
        known = self._of(connection_id)
        if known is not None and known.has(line):
            return False
        known = self._take(known, connection_id)
        known.lines = self._newest([*known.lines, line], _LINES_OF_ONE)
        self._keep(process, known, line)
        return True

    def request(self, process: str, line: Line) -> bool:
        """A request that was answered or refused. False for a record that is here already."""
        connection_id = str(line.get("connection_id"))
        known = self._of(connection_id)
        if known is not None and known.has_request(line):
            return False
        known = self._take(known, connection_id)
        known.requests = self._newest([*known.requests, line], _REQUESTS_OF_ONE)
        self._keep(process, known, line)
        return True

    def live(self, process: str, lines: Iterable[Line]) -> None:
        """These are all that live in this process."""
        room = _MOST_LIVE - sum(len(one) for name, one in self._live.items() if name != process)
        self._live[process] = dict(
            pair for place, pair in enumerate((int(one["number"]), one) for one in lines) if place < room
        )
        self._live_bytes[process] = 0

    def opened(self, process: str, line: Line) -> None:
        """One more. Beyond the bound it is left out until ``live`` names all."""
        size = self._live_bytes.get(process, 0) + size_of(line)
        if size <= _MOST_LIVE_BYTES and sum(map(len, self._live.values())) < _MOST_LIVE:
            self._live.setdefault(process, {})[int(line["number"])] = line
            self._live_bytes[process] = size

    def closed(self, process: str, number: int) -> None:
        self._live.get(process, {}).pop(number, None)

    def gone(self, process: str) -> None:
        """The process does not answer: nothing is known to live there."""
        self._live.pop(process, None)

    def living(self) -> Iterator[Line]:
        for lines in self._live.values():
            yield from lines.values()

    def newest(self) -> list[Known]:
        """All that ended, the newest first."""
        return sorted(
            (one for found in self._known.values() for one in found.values()), key=lambda one: one.number, reverse=True
        )

    def of(self, connection_id: str) -> list[Line]:
        """Every record with this ID, as ``admin.story`` wants them."""
        known = self._of(connection_id)
        ended = [*known.lines, *known.requests] if known is not None else []
        return [*(one for one in self.living() if one.get("connection_id") == connection_id), *ended]

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def _of(self, connection_id: str) -> Known | None:
        return next((found[connection_id] for found in self._known.values() if connection_id in found), None)

    def _take(self, known: Known | None, connection_id: str) -> Known:
        self._number += 1
        if known is None:
            return Known(connection_id, self._number)
        for found in self._known.values():
            found.pop(connection_id, None)
        known.number = self._number
        return known

    def _keep(self, process: str, known: Known, line: Line) -> None:
        found = self._known[known.verdict]
        found[known.connection_id] = known
        self._shares.hold(process, known.connection_id, line)
        if len(found) > self._most[known.verdict]:
            for one in self._forget(next(iter(found))):
                self._shares.release(one)
        for connection_id, one in self._shares.excess(process):
            self._drop(connection_id, one)

    def _newest(self, lines: list[Line], most: int) -> list[Line]:
        for one in lines[:-most]:
            self._shares.release(one)
        return lines[-most:]

    def _drop(self, connection_id: str, line: Line) -> None:
        """One record; without another one its connection is forgotten."""
        known = self._of(connection_id)
        if known is not None:
            known.lines = [one for one in known.lines if one is not line]
            known.requests = [one for one in known.requests if one is not line]
            if not known.lines and not known.requests:
                self._forget(connection_id)

    def _forget(self, connection_id: str) -> list[Line]:
        gone = [found.pop(connection_id, None) for found in self._known.values()]
        return [line for known in gone if known is not None for line in (*known.lines, *known.requests)]
