"""Settings as plain values for ``/config_dump``, without what is secret. Pure.

Only the types below are written; of any other value there is its type alone. So an object with a key or a token in it
can't be shown by a mistake elsewhere. A key of a file is secret if it is declared so (``Key.secret``), and a field of a
dataclass if it is no part of its ``repr``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from meshtls.address import Address
from meshtls.config.keys import duration_text, keys_of
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.workload.address import Address as WorkloadAddress

__all__ = ["HIDDEN", "plain"]

HIDDEN = "(not shown)"
_DEEPEST = 16


def plain(value: Any, depth: int = 0) -> object:
    """The value as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if isinstance(value, Path | Address | SpiffeId | TrustDomain | WorkloadAddress):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    if depth >= _DEEPEST:
        return f"({type(value).__name__})"
    if isinstance(value, Mapping):
        return {str(name): plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, msgspec.Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return _fields(value, depth)
    return f"({type(value).__name__})"


def _fields(value: Any, depth: int) -> dict[str, object]:
    declared = {one.field: one for one in keys_of(type(value))}
    if dataclasses.is_dataclass(value):
        fields = {one.name: one.repr for one in dataclasses.fields(value)}
    else:
        fields = dict.fromkeys(value.__struct_fields__, True)
    found: dict[str, object] = {}
    for name, shown in fields.items():
        one = getattr(value, name)
        key = declared.get(name)
        secret = not shown or (key is not None and key.key.secret)
        found[key.name if key is not None else name] = HIDDEN if secret and one else plain(one, depth + 1)
    return found
