"""What is told of a sidecar: its file for people and for programs, and that it serves."""

from __future__ import annotations

import os

from meshtls.cli.output import Record
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, OutboundConfig, SidecarConfig

__all__ = ["config_record", "config_text", "serving_record"]


def config_text(config: SidecarConfig) -> str:
    """A line for the sidecar and one for each of its doors."""
    lines = [f"sidecar {config.name} is {config.spiffe_id}"]
    for door in config.inbound:
        allowed = ", ".join(map(str, door.allow)) or "nobody"
        lines.append(f"  inbound {door.listen} ({door.mode.value}) to the app at {door.app}; allowed: {allowed}")
    lines += [f"  outbound {way.listen} to {way.to}, which must be {way.peer}" for way in config.outbound]
    return "\n".join(lines)


def config_record(config: SidecarConfig) -> Record:
    """The same as fields."""
    return {
        "name": config.name,
        "spiffe_id": str(config.spiffe_id),
        "workload_api": str(config.workload_api) if config.workload_api else None,
        "inbound": [_inbound(door) for door in config.inbound],
        "outbound": [_outbound(way) for way in config.outbound],
        "health": str(config.health) if config.health else None,
        "workers": config.workers,
    }


def serving_record(sidecar: Sidecar) -> Record:
    """Where an entered sidecar serves; ``pid`` tells several workers apart."""
    return {
        "event": "serving",
        "sidecar": sidecar.config.name,
        "spiffe_id": str(sidecar.config.spiffe_id),
        "inbound": [str(door.address) for door in sidecar.inbound],
        "outbound": [str(way.address) for way in sidecar.outbound],
        "health": str(sidecar.health.address) if sidecar.health else None,
        "pid": os.getpid(),
    }


def _inbound(door: InboundConfig) -> Record:
    allowed = list(map(str, door.allow))
    return {"listen": str(door.listen), "app": str(door.app), "mode": door.mode.value, "allow": allowed}


def _outbound(way: OutboundConfig) -> Record:
    return {"listen": str(way.listen), "to": str(way.to), "peer": str(way.peer)}
