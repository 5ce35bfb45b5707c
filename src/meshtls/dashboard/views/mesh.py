"""Who talks to whom: an edge for each pair of identities, and a node for each identity. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from meshtls.admin.edges import COUNTS, EdgeState, joined, state_of
from meshtls.dashboard.model import Model

__all__ = ["mesh"]


def mesh(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """Both sidecars of a connection report its edge; it counts once, by the server's side."""
    reported = [edge for one in model.sidecars for edge in one.pages.get("/graph", {}).get("edges", ())]
    live: Counter[tuple[str, str]] = Counter()
    seen = set()
    for line in model.connections.living():
        source, destination, connection_id = line["source_id"], line["destination_id"], line["connection_id"]
        if source and destination and connection_id not in seen:
            seen.add(connection_id)
            live[source, destination] += 1
    edges = {(one["source_id"], one["destination_id"]): one for one in joined(reported)}
    for pair in live:
        edges.setdefault(pair, {"source_id": pair[0], "destination_id": pair[1]})
    shown = [_edge(one, live[pair]) for pair, one in sorted(edges.items())]
    holders: dict[str, list[str]] = {}
    for process in model.sidecars:
        holders.setdefault(str(process.info.get("spiffe_id")), []).append(process.name)
    names = set(holders) | {end for one in shown for end in (one["source"], one["destination"])}
    return {"nodes": [{"id": one, "sidecars": holders.get(one, [])} for one in sorted(names)], "edges": shown}


def _edge(edge: Mapping[str, Any], live: int) -> dict[str, Any]:
    return {
        "source": edge["source_id"],
        "destination": edge["destination_id"],
        "state": (state_of(edge) if "connections" in edge else EdgeState.MUTUAL_TLS).value,
        "live": live,
        **{name: int(edge.get(name, 0)) for name in COUNTS},
        "request_ms": edge.get("request_ms"),
        "connections_per_second": edge.get("connections_per_second", 0.0),
        "requests_per_second": edge.get("requests_per_second", 0.0),
        "bytes_in": int(edge.get("bytes_in", 0)),
        "bytes_out": int(edge.get("bytes_out", 0)),
    }
