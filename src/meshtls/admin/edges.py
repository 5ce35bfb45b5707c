"""The edges that several sidecars report, joined: one for each pair of IDs, and what each is, in a word. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from meshtls.observe.edges import PLAINTEXT

__all__ = ["COUNTS", "Edge", "EdgeState", "joined", "share", "state_of"]

Edge = Mapping[str, Any]
#: What of an edge is counted.
COUNTS = (
    "connections",
    "allowed",
    "denied",
    "failed",
    "mutual_tls",
    "tls",
    "plaintext",
    "requests",
    "denied_requests",
    "failed_requests",
)
_SUMS = (*COUNTS, "bytes_in", "bytes_out", "connections_per_second", "requests_per_second")


class EdgeState(Enum):
    """What an edge is drawn as."""

    DENIED = "denied"
    """Nothing was served, and some of it was denied."""
    FAILED = "failed"
    """Nothing was served, and nothing denied."""
    PLAINTEXT = "plaintext"
    """Some or all of what was served had no TLS."""
    TLS = "tls"
    """TLS to a server outside of the mesh."""
    MUTUAL_TLS = "mtls"


def state_of(edge: Edge) -> EdgeState:
    """An edge with HTTP requests is judged by them: the connection of a refused request was allowed."""
    served = edge["requests"] - edge["failed_requests"] if edge["requests"] else edge["allowed"]
    ended = edge["connections"] or edge["requests"]
    if ended and not served:
        return EdgeState.DENIED if edge["denied"] or edge.get("denied_requests") else EdgeState.FAILED
    if edge.get("plaintext") or PLAINTEXT in (edge["source_id"], edge["destination_id"]):
        return EdgeState.PLAINTEXT
    return EdgeState.TLS if edge.get("tls") else EdgeState.MUTUAL_TLS


def share(part: int, whole: int) -> str:
    """A part of the whole in percent; "-" where the whole is 0."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def joined(reported: Iterable[Edge]) -> list[Edge]:
    """One edge for each pair of IDs: what servers' sides report, or else what clients' sides do."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for one in reported:
        sides = found.setdefault((one["source_id"], one["destination_id"]), {})
        side = sides.get(one["reporter"])
        if side is None:
            sides[one["reporter"]] = dict(one)
        else:
            _add(side, one)
    return [sides.get("destination") or sides["source"] for _, sides in sorted(found.items())]


def _add(side: dict[str, Any], one: Edge) -> None:
    requests = side["requests"] + one["requests"]
    if requests:
        total = sum((each["request_ms"] or 0) * each["requests"] for each in (side, one))
        side["request_ms"] = round(total / requests, 3)
    side.update({name: side.get(name, 0) + one.get(name, 0) for name in _SUMS})
