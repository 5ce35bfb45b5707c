"""Each process that is asked: whether it answers, what it is, and its levels of logging. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshtls.dashboard.model import Model, Process

__all__ = ["processes"]


def processes(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    return {"processes": [_process(one) for one in model.processes.values()]}


def _process(one: Process) -> dict[str, Any]:
    ready = one.pages.get("/ready", {})
    return {
        "address": one.address,
        "name": one.name,
        "kind": one.kind.value if one.kind is not None else None,
        "error": one.error,
        "untold": one.untold,
        "lost": one.lost,
        "ready": ready.get("ready"),
        "ready_text": ready.get("text") or "",
        "level": one.pages.get("/logging", {}).get("level"),
        **{name: one.info.get(name) for name in ("spiffe_id", "state", "version", "openssl", "pid", "started")},
    }
