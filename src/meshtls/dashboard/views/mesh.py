"""Who talks to whom: an edge for each pair of identities, and a node for each identity. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from meshtls.admin.edges import joined
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
    connections, denied, mutual = (int(edge.get(one, 0)) for one in ("connections", "denied", "mutual_tls"))
    return {
        "source": edge["source_id"],
        "destination": edge["destination_id"],
        "state": _state(connections, denied, mutual, plaintext="(plaintext)" in (edge["source_id"],)),
        "live": live,
        "connections": connections,
        "allowed": int(edge.get("allowed", 0)),
        "denied": denied,
        "failed": int(edge.get("failed", 0)),
        "mutual_tls": mutual,
        "requests": int(edge.get("requests", 0)),
        "failed_requests": int(edge.get("failed_requests", 0)),
        "request_ms": edge.get("request_ms"),
        "connections_per_second": edge.get("connections_per_second", 0.0),
        "requests_per_second": edge.get("requests_per_second", 0.0),
        "bytes_in": int(edge.get("bytes_in", 0)),
        "bytes_out": int(edge.get("bytes_out", 0)),
    }


def _state(connections: int, denied: int, mutual: int, *, plaintext: bool) -> str:
    """``denied`` if nothing was let in, ``plaintext`` if some of it had no TLS, ``mtls`` for mutual TLS alone."""
    if connections and denied == connections:
        return "denied"
    if plaintext or mutual < connections:
        return "plaintext"
    return "mtls"
