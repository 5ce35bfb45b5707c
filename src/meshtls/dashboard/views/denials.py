"""What was denied, grouped by what denied it, with the clause and what would have let it in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshtls.admin.next_steps import next_step, sentence
from meshtls.dashboard.denials import OTHER
from meshtls.dashboard.model import Model

__all__ = ["denials"]

_MOST_SOURCES = 10
#: What is shown of the newest denial for those that have no group of their own.
_COMMON = ("outcome", "direction", "connection_id")
_MIXED = "denied for various reasons: there are more than this page tells apart"


def denials(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """``decided_by`` is the workload whose sidecar denied: of a wrong server, the caller. ``detail`` is the newest
    denial in the policy's own words, which name the nearest ALLOW.
    """
    found = []
    for one in model.denials:
        line = {name: one.line.get(name) for name in _COMMON} | {"policy": OTHER} if one.mixed else one.line
        outbound = line.get("direction") == "outbound"
        found.append(
            {
                "outcome": line.get("outcome"),
                "reason": _MIXED if one.mixed else sentence(line),
                "decided_by": line.get("source_id" if outbound else "destination_id"),
                "destination": line.get("destination_id"),
                "policy": line.get("policy"),
                "rule": line.get("rule"),
                "clause": line.get("clause"),
                "detail": line.get("detail"),
                "next_step": "" if one.mixed else next_step(line),
                "connection_id": line.get("connection_id"),
                "count": one.count,
                "requests": one.requests,
                "first": one.first,
                "last": one.last,
                "sources": [{"id": name, "count": count} for name, count in one.sources.most_common(_MOST_SOURCES)],
                "more_sources": max(0, len(one.sources) - _MOST_SOURCES),
            }
        )
    return {"denials": found, "total": sum(one["count"] for one in found)}
