"""The page ``/connections`` for people: what fits a line of each, and the newest alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshtls.admin.pages import Record

__all__ = ["MOST", "connections_in_short"]

#: Connections, and requests, of each list that are shown if no number is asked for.
MOST = 20
_LONGEST_REQUEST = 60
Line = Mapping[str, Any]


def connections_in_short(record: Record, most: int = MOST) -> Record:
    """The record with the first ``most`` of each list of connections, in columns that fit a screen.

    ``peer`` is the other side's SPIFFE ID, without the trust domain if that is the sidecar's own, or its address. The
    record of a server or an agent has no such list, and stays as it is.
    """
    own = str(record.get("spiffe_id") or "")
    short, cut = dict(record), []
    for name, columns in (("live", _live), ("ended", _ended), ("requests", _request)):
        lines = record.get(name)
        if isinstance(lines, list) and all(isinstance(one, Mapping) for one in lines):
            short[name] = [columns(one, own) for one in lines[:most]]
            cut += [name] if len(lines) > most else []
    if cut:
        short["more"] = f"{', '.join(cut)}: the newest {most} are shown; limit=NUMBER, or --output json, shows more"
    return short


def _live(one: Line, own: str) -> Record:
    return {
        "connection_id": one.get("connection_id"),
        "direction": one.get("direction"),
        "state": one.get("state"),
        "peer": _peer(one, own),
        "seconds": one.get("seconds"),
        "bytes_in": one.get("bytes_in"),
        "bytes_out": one.get("bytes_out"),
    }


def _ended(one: Line, own: str) -> Record:
    return {
        "time": _clock(one),
        "connection_id": one.get("connection_id"),
        "direction": one.get("direction"),
        "outcome": one.get("outcome"),
        "peer": _peer(one, own),
        "bytes_in": one.get("bytes_in"),
        "bytes_out": one.get("bytes_out"),
        "ms": one.get("total_ms"),
    }


def _request(one: Line, own: str) -> Record:
    asked = f"{one.get('method')} {one.get('host')}{one.get('path')}"
    return {
        "time": _clock(one),
        "connection_id": one.get("connection_id"),
        "peer": _peer(one, own),
        "request": asked if len(asked) <= _LONGEST_REQUEST else f"{asked[:_LONGEST_REQUEST]}...",
        "status": one.get("status"),
        "outcome": one.get("outcome"),
        "ms": one.get("total_ms"),
    }


def _clock(one: Line) -> str:
    """The date and the time to the second, of ISO 8601."""
    return str(one.get("time") or "")[:19]


def _peer(one: Line, own: str) -> str:
    found = one.get("destination_id" if one.get("direction") == "outbound" else "source_id") or one.get("remote") or ""
    domain = own.removeprefix("spiffe://").partition("/")[0]
    return str(found).removeprefix(f"spiffe://{domain}") if domain else str(found)
