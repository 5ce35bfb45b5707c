"""Compares two configurations on reload: which keys take effect now, and which need a restart. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec

from meshtls.config.keys import Shape, keys_of
from meshtls.errors import ConfigError
from meshtls.spiffeid import TrustDomain

__all__ = ["Changes", "check_same_domain", "merged"]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Changes:
    """The paths of the keys whose values differ: ``taken`` are in effect now, ``restart`` need a restart."""

    taken: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def check_same_domain(running: TrustDomain, wanted: TrustDomain) -> None:
    """Raise ConfigError if they differ: keys and entries of one trust domain are useless in another."""
    if running != wanted:
        raise ConfigError(f"trust_domain: {running} can't change to {wanted} in a running process; restart it")


def merged(running: S, wanted: S) -> tuple[S, Changes]:
    """The configuration to run with after a reload: ``running`` with the live keys of ``wanted``. And what differs."""
    changes = list(_changes(running, wanted, ""))
    taken = tuple(path for path, live in changes if live)
    restart = tuple(path for path, live in changes if not live)
    return _merge(running, wanted), Changes(taken, restart)


def _changes(running: Any, wanted: Any, prefix: str, live: bool = False) -> Iterator[tuple[str, bool]]:
    for one in keys_of(type(running)):
        before, after = getattr(running, one.field), getattr(wanted, one.field)
        if before == after:
            continue
        taken = live or one.key.live
        if one.shape is Shape.SECTION and before is not None and after is not None:
            yield from _changes(before, after, f"{prefix}{one.name}.", taken)
        else:
            yield f"{prefix}{one.name}", taken


def _merge(running: S, wanted: S) -> S:
    values: dict[str, Any] = {}
    for one in keys_of(type(running)):
        before, after = getattr(running, one.field), getattr(wanted, one.field)
        if one.key.live:
            values[one.field] = after
        elif one.shape is Shape.SECTION and before is not None and after is not None:
            values[one.field] = _merge(before, after)
    if isinstance(running, msgspec.Struct):
        return msgspec.structs.replace(running, **values)
    changed: S = dataclasses.replace(cast("Any", running), **values)
    return changed
