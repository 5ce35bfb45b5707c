"""The connections that ended most recently, for operators. Bounded. Pure.

Anyone can cause denials and failures, so each verdict has a place of its own: a flood of refused strangers does not
push out what was allowed. A load balancer may probe a port each second, and its probes push out no failure.
"""

from __future__ import annotations

from collections import deque
from itertools import chain

from meshtls.observe.events import ConnectionResult, Outcome, RequestResult, Verdict

__all__ = ["Recent", "is_of"]

_MOST = 512


class Recent:
    """The newest connections and requests that ended. ``connection`` and ``request`` take each result; the others read.
    Up to ``most`` of each verdict are kept, and as many of what was closed early.

    ``totals`` counts connections by direction and outcome since the start.
    """

    def __init__(self, most: int = _MOST) -> None:
        places = *Verdict, Outcome.CLOSED_EARLY
        self._connections = {place: deque[ConnectionResult](maxlen=most) for place in places}
        self._requests = {verdict: deque[RequestResult](maxlen=most) for verdict in Verdict}
        self.totals: dict[tuple[str, Outcome], int] = {}

    def connection(self, result: ConnectionResult) -> None:
        early = result.outcome is Outcome.CLOSED_EARLY
        self._connections[result.outcome if early else result.verdict].append(result)
        key = result.direction.value, result.outcome
        self.totals[key] = self.totals.get(key, 0) + 1

    def request(self, result: RequestResult) -> None:
        self._requests[result.outcome.verdict].append(result)

    def connections(self, connection_id: str = "") -> list[ConnectionResult]:
        """The newest first; with an ID, those of this ID, and for a tunnel also its streams."""
        kept = chain.from_iterable(self._connections.values())
        found = (one for one in kept if is_of(one.connection_id, connection_id))
        return sorted(found, key=lambda one: one.started, reverse=True)

    def requests(self, connection_id: str = "") -> list[RequestResult]:
        """As ``connections``."""
        kept = chain.from_iterable(self._requests.values())
        found = (one for one in kept if is_of(one.context.connection_id, connection_id))
        return sorted(found, key=lambda one: one.started, reverse=True)

    def __repr__(self) -> str:
        return f"<Recent [{sum(map(len, self._connections.values()))} connections]>"


def is_of(found: str, wanted: str) -> bool:
    """Whether a connection of ID ``found`` is meant by ``wanted``: itself, or a stream of it."""
    return not wanted or found == wanted or found.startswith(f"{wanted}-")
