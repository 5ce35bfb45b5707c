"""What a new configuration changes for a running sidecar: which keys it takes over, and which need a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from meshtls.sidecar.settings import InboundConfig, OutboundConfig, SidecarConfig

__all__ = ["Changes", "changed_keys", "changes", "in_force", "matched"]

C = TypeVar("C", InboundConfig, OutboundConfig)

#: What the process is made of: identity, processes, and the address that something outside asks.
_RESTART = {
    "name": "name",
    "spiffe_id": "spiffe_id",
    "workload_api": "identity.workload_api",
    "health": "health",
    "workers": "workers",
}


class Changes(NamedTuple):
    """Keys in words. ``ended`` is how many live connections the new configuration forbids, which were closed."""

    taken: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    ended: int = 0


def in_force(running: SidecarConfig, wanted: SidecarConfig) -> SidecarConfig:
    """``wanted``, but for what needs a restart."""
    return msgspec.structs.replace(wanted, **{field: getattr(running, field) for field in _RESTART})


def changes(running: SidecarConfig, wanted: SidecarConfig) -> Changes:
    """What differs between what runs and what is wanted."""
    taken = [
        *_of_listeners("inbound", running.inbound, wanted.inbound),
        *_of_listeners("outbound", running.outbound, wanted.outbound),
        *(f"workload.{key}" for key in changed_keys(running.workload, wanted.workload)),
        *(f"limits.{key}" for key in changed_keys(running.limits, wanted.limits)),
        *(["log_level"] if running.log_level != wanted.log_level else []),
    ]
    restart = [key for field, key in _RESTART.items() if getattr(running, field) != getattr(wanted, field)]
    return Changes(tuple(taken), tuple(restart))


def changed_keys(running: msgspec.Struct, wanted: msgspec.Struct) -> tuple[str, ...]:
    """The fields of two structs of one kind that differ."""
    return tuple(field for field in running.__struct_fields__ if getattr(running, field) != getattr(wanted, field))


def matched(running: Sequence[C], wanted: Sequence[C]) -> list[int | None]:
    """For each wanted listener the place of the running one with its address, which it goes on with; None for a new
    one. Where an address is there several times (port 0), they are matched in their order.
    """
    free = list(range(len(running)))
    found: list[int | None] = []
    for config in wanted:
        place = next((place for place in free if running[place].listen == config.listen), None)
        if place is not None:
            free.remove(place)
        found.append(place)
    return found


def _of_listeners(kind: str, running: Sequence[C], wanted: Sequence[C]) -> Iterator[str]:
    places = matched(running, wanted)
    for config, place in zip(wanted, places, strict=True):
        if place is None:
            yield f"{kind} {config.listen} (new)"
        elif keys := changed_keys(running[place], config):
            yield f"{kind} {config.listen} ({', '.join(keys)})"
    for place, config in enumerate(running):
        if place not in places:
            yield f"{kind} {config.listen} (removed)"
