"""What was denied, grouped by what denied it, with the clause and what would have let it in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshtls.admin.story import NEXT_STEPS
from meshtls.dashboard.model import Model
from meshtls.observe.events import Outcome

__all__ = ["denials"]

_MOST_SOURCES = 10


def denials(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """``detail`` is the newest denial in the policy's own words, which name the nearest ALLOW."""
    found = []
    for one in model.denials:
        line = one.line
        outcome = Outcome.__members__.get(str(line.get("outcome")))
        found.append(
            {
                "outcome": line.get("outcome"),
                "reason": line.get("reason"),
                "destination": line.get("destination_id"),
                "policy": line.get("policy"),
                "rule": line.get("rule"),
                "clause": line.get("clause"),
                "detail": line.get("detail"),
                "next_step": NEXT_STEPS[outcome] if outcome is not None else "",
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
