"""Reads a sidecar's configuration: one YAML file, all problems with file, line and key. ``settings`` declares the keys.

There is no default that lets a peer in: an inbound that speaks TLS must say who may come, and an empty list is nobody.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from meshtls.config.document import read_text, yaml_document
from meshtls.config.reading import read
from meshtls.errors import ConfigError
from meshtls.sidecar.settings import SidecarConfig, SidecarFile

__all__ = ["load_config", "parse_config", "with_workers"]


def load_config(path: Path) -> SidecarConfig:
    """Read a sidecar's file. Raises ConfigError."""
    return parse_config(read_text(path), str(path))


def parse_config(text: str, file: str = "sidecar.yaml") -> SidecarConfig:
    """Read a sidecar's YAML; ``file`` is its name in messages. Raises ConfigError."""
    document = yaml_document(file, text)
    said = read(document, SidecarFile).value
    return SidecarConfig(
        name=said.name,
        spiffe_id=said.spiffe_id,
        workload_api=said.identity.workload_api if said.identity else None,
        inbound=said.inbound,
        outbound=said.outbound,
        workload=said.workload,
        limits=said.limits,
        health=said.health,
        workers=said.workers,
        log_level=said.log_level,
        notices=tuple(document.notices),
    )


def with_workers(config: SidecarConfig, workers: int | None) -> SidecarConfig:
    """The same with so many workers, where a number is given. Raises ConfigError where they could not share a port."""
    if workers is None:
        return config
    ports = [listener.listen.port for listener in config.inbound] + [way.listen.port for way in config.outbound]
    ports += [config.health.port] if config.health else []
    if workers > 1 and not all(ports):
        raise ConfigError("workers: wanted a port other than 0 for each listener, since the workers share them")
    return msgspec.structs.replace(config, workers=workers)
