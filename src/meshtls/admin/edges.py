"""The edges that several sidecars report, joined: one for each pair of IDs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Edge", "joined"]

Edge = Mapping[str, Any]
_SUMS = (
    "connections",
    "allowed",
    "denied",
    "failed",
    "mutual_tls",
    "requests",
    "failed_requests",
    "bytes_in",
    "bytes_out",
    "connections_per_second",
    "requests_per_second",
)


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
    side.update({name: side[name] + one[name] for name in _SUMS})
