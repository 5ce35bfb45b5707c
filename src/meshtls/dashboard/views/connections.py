"""Live and ended connections, a part of the list at a time, and the story of one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meshtls.admin.story import stories
from meshtls.dashboard.connections import Known
from meshtls.dashboard.model import Model
from meshtls.errors import NotFoundError, RequestError
from meshtls.scalars import shown

__all__ = ["connections", "story"]

Line = Mapping[str, Any]
_STATES = ("all", "live", "ended")
_USUAL, _MOST, _LONGEST = 100, 200, 256
#: What a text is looked for in.
_SEARCHED = (
    "connection_id",
    "source_id",
    "destination_id",
    "sidecar",
    "remote",
    "outcome",
    "detail",
    "policy",
    "security",
)


def connections(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """``words``: ``state`` (live, ended), ``verdict``, ``outcome``, ``q`` (a text), ``offset``, ``limit``. Raises
    RequestError.
    """
    state = words.get("state", "all")
    if state not in _STATES:
        raise RequestError(f"state: wanted {', '.join(_STATES)}, got {shown(state)}")
    offset, limit = _number(words, "offset", 0, 10**6), _number(words, "limit", _USUAL, _MOST)
    verdict, outcome, wanted = words.get("verdict", ""), words.get("outcome", ""), _filter(words)
    rows: list[Known] = []
    if state != "ended" and (verdict, outcome) == ("", ""):
        rows += [one for one in _live(model.connections.living()) if any(map(wanted, one.lines))]
    living = len(rows)
    if state != "live":
        rows += [
            one
            for one in model.connections.newest()
            if verdict in ("", one.verdict)
            and _ended_so(one, outcome)
            and any(map(wanted, (*one.lines, *one.requests)))
        ]
    part = rows[offset : offset + limit]
    return {
        "total": len(rows),
        "live": living,
        "offset": offset,
        "limit": limit,
        "rows": [_row(one) for one in part],
    }


def story(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """``words``: ``id``. Raises NotFoundError."""
    wanted = words.get("id", "")[:_LONGEST]
    found = stories(wanted, model.connections.of(wanted))
    if not found:
        raise NotFoundError(f"connection {wanted}: no record of it; the dashboard keeps the newest that it has seen")
    return {"connections": [one.record() for one in found]}


def _live(lines: Iterable[Line]) -> list[Known]:
    found: dict[str, Known] = {}
    for line in lines:
        key = str(line.get("connection_id"))
        found.setdefault(key, Known(key, 0)).lines.append(line)
    return sorted(found.values(), key=lambda one: str(one.lines[0].get("started")), reverse=True)


def _filter(words: Mapping[str, str]) -> Callable[[Line], bool]:
    text = words.get("q", "")[:_LONGEST].lower()

    def wanted(line: Line) -> bool:
        return not text or any(text in str(line.get(name) or "").lower() for name in _SEARCHED)

    return wanted


def _ended_so(known: Known, outcome: str) -> bool:
    """Whether it ended so, by the records that have its verdict: of a connection whose requests were denied, none is
    OK.
    """
    if not outcome:
        return True
    verdict = known.verdict
    return any(
        one.get("outcome") == outcome and one.get("verdict") == verdict for one in (*known.lines, *known.requests)
    )


def _row(known: Known) -> dict[str, Any]:
    told = stories(known.connection_id, [*known.lines, *known.requests])[0]
    line, why = told.decisive, told.telling
    sides = [one for one in (told.near, told.far) if one is not None] or [line]
    return {
        "id": known.connection_id,
        "time": line.get("time") or line.get("started"),
        "state": "ended" if "outcome" in line else str(line.get("state")),
        "source": _known(sides, "source_id"),
        "destination": _known(sides, "destination_id"),
        "sides": [f"{one.get('sidecar')} ({one.get('direction')})" for one in sides],
        "verdict": why.get("verdict") or "live",
        "outcome": why.get("outcome"),
        "detail": why.get("detail") or "",
        "security": _known([line, *sides], "security"),
        "tls_version": _known(sides, "tls_version"),
        "policy": why.get("policy"),
        "requests": len(known.requests),
        "bytes_in": line.get("bytes_in", 0),
        "bytes_out": line.get("bytes_out", 0),
        "total_ms": line.get("total_ms"),
        "seconds": line.get("seconds"),
    }


def _known(sides: Iterable[Line], name: str) -> Any:
    return next((one[name] for one in sides if one.get(name)), None)


def _number(words: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = words.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise RequestError(f"{name}: wanted a number, 0 to {most}, got {shown(text)}")
    return int(text)
