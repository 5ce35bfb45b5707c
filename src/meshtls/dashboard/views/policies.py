"""What applies to whom: the rules in force at each listener, entries of agents, and dry runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshtls.dashboard.model import Kind, Model

__all__ = ["policies"]


def policies(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    workloads, entries = [], []
    for process in model.processes.values():
        page = process.pages.get("/policies", {})
        if process.kind is Kind.SIDECAR:
            workloads.append(
                {
                    "process": process.name,
                    "spiffe_id": process.info.get("spiffe_id"),
                    "stale": bool(process.error),
                    "generation": page.get("generation"),
                    "not_taken": page.get("not_taken") or "",
                    "listeners": page.get("listeners", []),
                }
            )
        elif process.kind is Kind.AGENT:
            entries += [
                {name: one.get(name) for name in ("entry", "spiffe_id", "selectors", "last_error")}
                | {"process": process.name}
                for one in page.get("entries", ())
            ]
    return {
        "workloads": sorted(workloads, key=lambda one: str(one["spiffe_id"])),
        "entries": entries,
        "dry_runs": [
            {"text": text, "count": count, "connection_id": line.get("connection_id")}
            for text, count, line in model.dry_runs
        ],
    }
