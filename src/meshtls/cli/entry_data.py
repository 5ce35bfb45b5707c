"""Reads the JSON of ``entry create|update|delete --data``: ours, as ``entry show`` prints it, and SPIRE's. Pure.

SPIRE has two forms: its ``-data`` files, and the output of its ``entry show -output json``. They differ from ours in
names (``entry_id``), in selectors and IDs as objects, and in integers as strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshtls.errors import RequestError
from meshtls.printable import indented
from meshtls.registration import Selector
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["EntryData", "read_entries", "read_ids"]

#: SPIRE's names of fields that have another name here.
_OTHER_NAMES = {
    "entry_id": "id",
    "revision_number": "revision",
    "entry_expiry": "expires_at",
    "ttl": "x509_svid_ttl",
}
#: Fields that the server sets. An export has them; in a file they are ignored.
_OF_THE_SERVER = ("created_at",)
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class EntryData:
    """One entry of a file. ``place`` is its position in the file; ``fields`` are the fields of Entry that it sets."""

    place: str
    id: str
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its position and identity, for a message."""
        which = self.id or self.fields.get("spiffe_id")
        return f"{self.place} ({which})" if which else self.place


def read_entries(text: bytes) -> list[EntryData]:
    """The entries of ``{"entries": [...]}``, of a list, or of one object. Raises RequestError with all problems."""
    problems: list[str] = []
    found = [_entry(place, value, problems) for place, value in _items(text, "entries")]
    _refuse(problems)
    return [one for one in found if one is not None]


def read_ids(text: bytes) -> list[str]:
    """The ids of ``{"ids": [...]}``, of a list of ids, or of entries. Raises RequestError with all problems."""
    problems: list[str] = []
    ids = []
    for place, value in _items(text, "ids", "entries"):
        found = value
        if isinstance(value, dict):
            found = value.get("id", value.get("entry_id"))
        if isinstance(found, str) and found:
            ids.append(found)
        else:
            problems.append(f"{place}: wanted an entry's id, got {_kind(value)}")
    _refuse(problems)
    return ids


def _items(text: bytes, *names: str) -> list[tuple[str, Any]]:
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"wanted JSON, got invalid JSON: {error}") from error
    if isinstance(value, list):
        return [(f"[{place}]", one) for place, one in enumerate(value)]
    if isinstance(value, dict):
        for name in names:
            listed = value.get(name)
            if isinstance(listed, list):
                # SPIRE's list has a page token beside the entries.
                others = [other for other in value if other not in (name, "next_page_token")]
                if others:
                    raise RequestError(f"wanted {name} alone, got {shown(others[0])} beside it")
                return [(f"{name}[{place}]", one) for place, one in enumerate(listed)]
        if "spiffe_id" in value or "id" in value or "entry_id" in value:
            return [("entry", value)]
    wanted = " or ".join(f'{{"{name}": [...]}}' for name in names)
    raise RequestError(f"wanted {wanted} or a list, got {_kind(value)}")


def _entry(place: str, value: object, problems: list[str]) -> EntryData | None:
    if not isinstance(value, dict):
        problems.append(f"{place}: wanted an object, got {_kind(value)}")
        return None
    fields: dict[str, Any] = {}
    for key, given in value.items():
        name = _OTHER_NAMES.get(str(key), str(key))
        if name in _OF_THE_SERVER:
            continue
        if name == "store_svid":
            if given:
                problems.append(f"{place}.store_svid: storing SVIDs is not supported; remove this key")
            continue
        reader = _FIELDS.get(name)
        if reader is None:
            problems.append(f"{place}.{key}: unknown key; wanted one of {', '.join(_FIELDS)}")
        elif name in fields:
            problems.append(f"{place}.{key}: this key is another name of a key that is already given")
        elif given is not None or name == "expires_at":
            try:
                fields[name] = reader(given)
            except RequestError as error:
                problems.append(f"{place}.{key}: {error}")
    return EntryData(place, fields.pop("id", ""), fields)


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    told = problems[:_MOST_PROBLEMS]
    if len(problems) > len(told):
        told.append(f"and {len(problems) - len(told)} more")
    raise RequestError("it can't be used:", *indented(told))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise RequestError(f"wanted a string, got {_kind(value)}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"wanted true or false, got {_kind(value)}")
    return value


def _whole(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        return int(value)
    if type(value) is not int or value < 0:
        raise RequestError(f"wanted a whole number, got {shown(value) if isinstance(value, str) else value!r}")
    return value


def _spiffe_id(value: object) -> SpiffeId:
    if isinstance(value, dict) and set(value) <= {"trust_domain", "path"}:
        return SpiffeId(TrustDomain.parse(_text(value.get("trust_domain"))), _text(value.get("path", "")))
    return SpiffeId.parse(_text(value))


def _selector(value: object) -> Selector:
    if isinstance(value, dict) and set(value) == {"type", "value"}:
        return Selector(_text(value["type"]), _text(value["value"]))
    return Selector.parse(_text(value))


def _moment(value: object) -> datetime | None:
    if value in (None, 0, "0"):
        return None
    try:
        if isinstance(value, str) and not value.isdigit():
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        else:
            return datetime.fromtimestamp(_whole(value), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    wanted = "wanted a time such as 2030-01-31T12:00:00Z, or seconds since 1970, got"
    raise RequestError(f"{wanted} {shown(value) if isinstance(value, str) else value!r}")


def _each(reader: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise RequestError(f"wanted a list, got {_kind(value)}")
        return tuple(reader(one) for one in value)

    return read


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {shown(twice)} in an object")
    return found


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


_FIELDS: Mapping[str, Callable[[object], Any]] = {
    "id": _text,
    "spiffe_id": _spiffe_id,
    "parent_id": _spiffe_id,
    "selectors": _each(_selector),
    "x509_svid_ttl": _whole,
    "jwt_svid_ttl": _whole,
    "federates_with": _each(lambda value: TrustDomain.parse(_text(value))),
    "dns_names": _each(_text),
    "hint": _text,
    "admin": _flag,
    "downstream": _flag,
    "expires_at": _moment,
    "revision": _whole,
}
