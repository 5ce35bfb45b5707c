"""Reads what a process sent into the records of ``dashboard/records.py``, and says how large one is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from meshtls.dashboard.records import PAGES, Connections, Event, Line, Live

__all__ = ["connections_of", "event_of", "moment", "page_of", "size_of"]

Record = Mapping[str, Any]
T = TypeVar("T")
#: Python's own bytes for a record and its members, about, beside those of its texts.
_OVERHEAD = 1024
_EVENTS: dict[str, type] = {"opened": Live, "ended": Line, "request": Line}
#: So that a year more or less is still a date, whatever is added to it.
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
_CUT = "..."
_TYPES: dict[object, inspect.Type] = {one: inspect.type_info(one) for one in (*PAGES.values(), Line, Live, Event)}


def page_of(path: str, record: Record) -> dict[str, Any]:
    """The page of this path. Raises ValueError for a record of another type, which it names."""
    found: dict[str, Any] = _read(record, PAGES[path])
    holders = (found, found.get("agent", {}), found.get("server", {}))
    svids = [svid for holder in holders for svid in holder.get("svids", ())]
    for svid in (*svids, *found.get("workloads", ())):
        moment(svid["not_before"])
        moment(svid["not_after"])
    return found


def connections_of(record: Record) -> Connections:
    """Read the page ``/connections``. Raises as ``page_of``."""
    found = _read(record, Connections)
    for line in (*found.get("live", ()), *found.get("ended", ()), *found.get("requests", ())):
        moment(_when(line))
    return found


def event_of(record: Record) -> dict[str, Any]:
    """A record of ``/tap``. Raises as ``page_of``."""
    kind = _EVENTS.get(str(record.get("event")), Event)
    found: dict[str, Any] = _read(record, kind)
    if kind is not Event:
        moment(_when(found))
    return found


def moment(text: object) -> datetime:
    """A moment of a record, RFC 3339. Raises ValueError."""
    found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    if found.tzinfo is None or not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise ValueError(f"wanted a moment with its time zone, {_FIRST_YEAR} to {_LAST_YEAR}, got {str(text)[:40]}")
    return found


def size_of(record: object) -> int:
    """The bytes that it takes to keep a record, about."""
    return _OVERHEAD + len(msgspec.json.encode(record))


def _when(line: Mapping[str, Any]) -> object:
    return line.get("time") or line.get("started")


def _read(record: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(record, kind)
    except msgspec.ValidationError:
        # What is too long is the one fault that is mended, and most records have none: cut, and look again.
        return msgspec.convert(_cut(record, _TYPES[kind]), kind)


def _cut(value: Any, wanted: inspect.Type) -> Any:
    """The same with every text, and every list of texts, at most as long as its type says."""
    match wanted:
        case inspect.UnionType(types=types):
            kind = inspect.StrType if isinstance(value, str) else inspect.ListType
            return next((_cut(value, one) for one in types if isinstance(one, kind)), value)
        case inspect.StrType(max_length=int(longest)) if isinstance(value, str) and len(value) > longest:
            return value[: longest - len(_CUT)] + _CUT
        case inspect.ListType(item_type=item, max_length=most) if isinstance(value, list):
            kept = value[:most] if isinstance(item, inspect.StrType) else value
            return [_cut(one, item) for one in kept]
        case inspect.TypedDictType(fields=fields) if isinstance(value, dict):
            of = {one.encode_name: one.type for one in fields}
            return {name: _cut(one, of[name]) for name, one in value.items() if name in of}
    return value
