"""What a new configuration changes for a running sidecar: which keys it takes over, and which need a restart. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from meshtls.sidecar import view
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["Changes", "Prepared", "compile_change", "in_force", "summary"]

#: What the process is made of: identity, processes, and the address that something outside asks.
_RESTART = {
    "name": "name",
    "spiffe_id": "spiffe_id",
    "workload_api": "identity.workload_api",
    "health": "health",
    "metrics": "metrics.listen",
    "tracing": "tracing",
    "admin": "admin",
    "log_format": "log_format",
    "workers": "workers",
    "crls": "crls",
    "insecure_keylog_file": "insecure_keylog_file",
    "insecure_capture": "insecure_capture",
}


class Changes(NamedTuple):
    """Keys in words. ``ended`` is how many live connections the new configuration forbids, which were closed."""

    taken: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    ended: int = 0


class Prepared(NamedTuple):
    """A configuration that is wanted, with all that takes long about it: its policies, compiled, and what differs."""

    wanted: SidecarConfig
    rules: view.Rules
    differing: Changes


def compile_change(running: SidecarConfig, in_use: view.MeshView, wanted: SidecarConfig) -> Prepared:
    """To be called in a thread, since it may take seconds. Raises ConfigError for policies that have no meaning."""
    return Prepared(wanted, view.compiled_rules(wanted, in_use), summary(running, wanted))


def in_force(running: SidecarConfig, wanted: SidecarConfig) -> SidecarConfig:
    """The wanted configuration, but for what needs a restart."""
    return msgspec.structs.replace(wanted, **{field: getattr(running, field) for field in _RESTART})


def summary(running: SidecarConfig, wanted: SidecarConfig) -> Changes:
    """What differs between what runs and what is wanted."""
    differing = view.changes(view.view_of(running), view.view_of(wanted))
    taken = [
        *(_words("inbound", one) for one in differing.inbound if one.change is not view.Change.KEPT),
        *(_words("outbound", one) for one in differing.outbound if one.change is not view.Change.KEPT),
        *(f"workload.{key}" for key in _different(running.workload, wanted.workload)),
        *(f"limits.{key}" for key in _different(running.limits, wanted.limits)),
        *(key for key in ("ext_authz", "request_auth") if getattr(running, key) != getattr(wanted, key)),
        *(["policies"] if running.policies != wanted.policies else []),
        *(["log_level"] if running.log_level != wanted.log_level else []),
    ]
    restart = [key for field, key in _RESTART.items() if getattr(running, field) != getattr(wanted, field)]
    return Changes(tuple(taken), tuple(restart))


def _words(kind: str, one: view.RouteChange) -> str:
    how = {view.Change.ADDED: "new", view.Change.REMOVED: "removed"}.get(one.change) or ", ".join(one.keys)
    return f"{kind} {one.listen} ({how})"


def _different(running: msgspec.Struct, wanted: msgspec.Struct) -> tuple[str, ...]:
    return tuple(field for field in running.__struct_fields__ if getattr(running, field) != getattr(wanted, field))
