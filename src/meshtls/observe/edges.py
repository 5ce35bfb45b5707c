"""Who talks to whom: what one process has seen, an edge for each pair of identities. Bounded. Pure.

Both sidecars of a connection have an edge for it, by their direction. A peer that is denied is an edge, too, and anyone
can claim an address; so the number of edges is bounded, and what comes later is one edge of ``OTHER``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshtls.observe.events import ConnectionResult, Direction, RequestResult, Security, Verdict

__all__ = ["OTHER", "PLAINTEXT", "Edge", "Edges"]

#: In the place of an ID: those beyond the bound, and an end that proves none.
OTHER, PLAINTEXT = "(others)", "(plaintext)"
_MOST = 1000
#: Rates are over so many seconds, in steps of so many.
_SECONDS, _STEP = 60, 10


@dataclass(slots=True)
class Edge:
    """Counts since the start. ``mutual_tls``: how many of the connections were."""

    connections: int = 0
    allowed: int = 0
    denied: int = 0
    failed: int = 0
    mutual_tls: int = 0
    requests: int = 0
    failed_requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    total_ms: float = 0.0
    #: Steps of time, and what began in each: connections, and requests.
    steps: deque[list[int]] = field(default_factory=lambda: deque(maxlen=_SECONDS // _STEP))

    def count(self, now: float, connections: int, requests: int) -> None:
        step = int(now // _STEP)
        if not self.steps or self.steps[-1][0] != step:
            self.steps.append([step, 0, 0])
        self.steps[-1][1] += connections
        self.steps[-1][2] += requests

    def per_second(self, now: float) -> tuple[float, float]:
        """Connections and requests a second, over the last minute."""
        since = int(now // _STEP) - _SECONDS // _STEP
        recent = [one for one in self.steps if one[0] > since]
        return sum(one[1] for one in recent) / _SECONDS, sum(one[2] for one in recent) / _SECONDS


class Edges:
    """``connection`` and ``request`` take each result; ``now`` is the seconds of a monotonic clock."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._edges: dict[tuple[str, str, str], Edge] = {}

    def connection(self, result: ConnectionResult, now: float) -> None:
        source = str(result.source_id or PLAINTEXT)
        edge = self._edge(source, str(result.destination_id or PLAINTEXT), result.direction.value)
        edge.connections += 1
        verdict = result.verdict
        if verdict is Verdict.ALLOWED:
            edge.allowed += 1
        elif verdict is Verdict.DENIED:
            edge.denied += 1
        else:
            edge.failed += 1
        edge.mutual_tls += result.security is Security.MUTUAL_TLS
        edge.bytes_in += result.bytes_in
        edge.bytes_out += result.bytes_out
        edge.count(now, 1, 0)

    def request(self, result: RequestResult, now: float) -> None:
        context = result.context
        edge = self._edge(str(context.source_id or PLAINTEXT), str(context.destination_id), Direction.INBOUND.value)
        edge.requests += 1
        edge.failed_requests += not context.outcome.allowed or result.status >= 500
        edge.total_ms += result.total_ms
        edge.count(now, 0, 1)

    def __iter__(self) -> Iterator[tuple[tuple[str, str, str], Edge]]:
        """Source, destination and direction, each with its edge."""
        return iter(self._edges.items())

    def __len__(self) -> int:
        return len(self._edges)

    def _edge(self, source: str, destination: str, direction: str) -> Edge:
        key = (source, destination, direction)
        found = self._edges.get(key)
        if found is None:
            if len(self._edges) >= self._most:
                key = (OTHER, OTHER, direction)
            found = self._edges.setdefault(key, Edge())
        return found
