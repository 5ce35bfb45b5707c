"""What is told of a sidecar: its file for people and for programs, and that it serves."""

from __future__ import annotations

import os
from collections.abc import Iterator

from meshtls.cli.output import Record
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Mode, OutboundConfig, SidecarConfig
from meshtls.workload.address import ENVIRONMENT_VARIABLE

__all__ = ["config_does", "config_record", "serving_record"]


def config_does(config: SidecarConfig) -> Iterator[str]:
    """What a sidecar of this configuration does: a line for each listener, then for the rest."""
    for listener in config.inbound:
        allowed = ", ".join(map(str, listener.allow)) or "nobody"
        allowed = "anybody, in plaintext" if listener.mode is Mode.DISABLE else allowed
        yield f"inbound {listener.listen} ({listener.mode.value}) to the app at {listener.app}; allowed: {allowed}"
    for way in config.outbound:
        yield f"outbound {way.listen} to {way.to}, which must be {way.peer}"
    yield f"gets its SVID from {config.workload_api or f'the Workload API that {ENVIRONMENT_VARIABLE} says'}"
    limits = config.limits
    each = f" in each of {config.workers} processes" if config.workers > 1 else ""
    yield f"serves up to {limits.connections} connections{each}, and drains for {limits.drain:g} s at a stop"
    if config.health:
        yield f"answers probes on {config.health}"
    yield f"logs from {config.log_level} on"


def config_record(config: SidecarConfig) -> Record:
    """The same as fields."""
    return {
        "name": config.name,
        "spiffe_id": str(config.spiffe_id),
        "workload_api": str(config.workload_api) if config.workload_api else None,
        "inbound": [_inbound(listener) for listener in config.inbound],
        "outbound": [_outbound(way) for way in config.outbound],
        "health": str(config.health) if config.health else None,
        "workers": config.workers,
        "log_level": config.log_level,
        "notices": list(config.notices),
    }


def serving_record(sidecar: Sidecar) -> Record:
    """Where an entered sidecar serves; ``pid`` tells several workers apart."""
    return {
        "event": "serving",
        "sidecar": sidecar.config.name,
        "spiffe_id": str(sidecar.config.spiffe_id),
        "inbound": [str(listener.address) for listener in sidecar.inbound],
        "outbound": [str(way.address) for way in sidecar.outbound],
        "health": str(sidecar.health.address) if sidecar.health else None,
        "pid": os.getpid(),
    }


def _inbound(listener: InboundConfig) -> Record:
    allowed = list(map(str, listener.allow))
    return {"listen": str(listener.listen), "app": str(listener.app), "mode": listener.mode.value, "allow": allowed}


def _outbound(way: OutboundConfig) -> Record:
    return {"listen": str(way.listen), "to": str(way.to), "peer": str(way.peer)}
