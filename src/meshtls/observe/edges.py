"""Who talks to whom: what one process has seen, an edge for each pair of identities. Bounded. Pure.

Both sidecars of a connection have an edge for it, by their direction. A peer that is denied is an edge, too, and anyone
can claim an address; so the number of edges is bounded, and what comes later is one edge of ``OTHER``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshtls.observe.events import ConnectionResult, Direction, Outcome, RequestResult, Security, Verdict

__all__ = ["NOT_REACHED", "OTHER", "PLAINTEXT", "UNPROVEN", "Edge", "Edges", "end_name"]

#: In the place of an ID: those beyond the bound, an end that spoke plaintext, one that proved none in TLS, and a
#: destination to which there was no connection.
OTHER, PLAINTEXT, UNPROVEN, NOT_REACHED = "(others)", "(plaintext)", "(no proven identity)", "(not reached)"
_MOST = 1000
#: Rates are over so many seconds, in steps of so many.
_SECONDS, _STEP = 60, 10


@dataclass(slots=True)
class Edge:
    """Counts since the start. ``mutual_tls``, ``tls``, ``plaintext``: how many of the connections were seen to be; in
    none of them is one whose handshake did not end well.

    ``failed_requests``: those that were denied or failed, or that the app answered with 5xx; ``denied_requests`` are
    part of them.
    """

    connections: int = 0
    allowed: int = 0
    denied: int = 0
    failed: int = 0
    mutual_tls: int = 0
    tls: int = 0
    plaintext: int = 0
    requests: int = 0
    denied_requests: int = 0
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
    """Who talks to whom. ``connection`` and ``request`` take results; ``now`` is in seconds of a monotonic clock."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._edges: dict[tuple[str, str, str], Edge] = {}

    def connection(self, result: ConnectionResult, now: float) -> None:
        source, destination = result.source_id, result.destination_id
        security = result.security.value if result.security is not None else None
        reached = result.phases.connect_ms is not None and result.outcome is not Outcome.CONNECT_FAILED
        edge = self._edge(
            str(source) if source is not None else end_name(security),
            str(destination) if destination is not None else end_name(security, reached=reached),
            result.direction.value,
        )
        edge.connections += 1
        verdict = result.verdict
        if verdict is Verdict.ALLOWED:
            edge.allowed += 1
        elif verdict is Verdict.DENIED:
            edge.denied += 1
        else:
            edge.failed += 1
        edge.mutual_tls += result.security is Security.MUTUAL_TLS
        edge.tls += result.security is Security.TLS
        edge.plaintext += result.security is Security.PLAINTEXT
        edge.bytes_in += result.bytes_in
        edge.bytes_out += result.bytes_out
        edge.count(now, 1, 0)

    def request(self, result: RequestResult, now: float) -> None:
        context = result.context
        source = str(context.source_id) if context.source_id is not None else end_name(context.security.value)
        edge = self._edge(source, str(context.destination_id), Direction.INBOUND.value)
        edge.requests += 1
        edge.denied_requests += context.outcome.verdict is Verdict.DENIED
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


def end_name(security: str | None, *, reached: bool = True) -> str:
    """What stands for the ID of an end that proved none. ``security``: as in the access log."""
    if not reached:
        return NOT_REACHED
    return PLAINTEXT if security == Security.PLAINTEXT.value else UNPROVEN
