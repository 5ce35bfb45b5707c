"""Reads a sidecar's configuration: one YAML file, every complaint with file, line and key. Pure.

There is no default that lets a peer in: an inbound that speaks TLS must say who may come, and an empty list is nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from meshtls.errors import ConfigError, RequestError
from meshtls.scalars import shown, size, whole_number, word, workload_id
from meshtls.sidecar.address import Address
from meshtls.sidecar.scalars import flag, leads_back, one_of, parse_duration, unique_addresses
from meshtls.sidecar.settings import (
    InboundConfig,
    KeyExchange,
    Limits,
    Mode,
    OutboundConfig,
    SidecarConfig,
    TlsMinimum,
    Workload,
)
from meshtls.workload.address import Address as WorkloadAddress
from meshtls.workload.address import parse_address
from meshtls.yaml_reader import Section, read_yaml

__all__ = ["MOST_WORKERS", "load_config", "parse_config", "with_workers"]

#: More than any machine holds; what is above is a slip of the hand.
MOST_WORKERS = 1024
_MOST_WARM = 10_000
_MOST_CONNECTIONS = 10_000_000
_MOST_STREAMS = 100_000
_LONGEST_LABEL = 253  # that of a name in Kubernetes
_WINDOWS_IN_MEMORY = 4


def load_config(path: Path) -> SidecarConfig:
    """Read a sidecar's file. Raises ConfigError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: wanted a readable YAML file: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, file: str = "sidecar.yaml") -> SidecarConfig:
    """Read a sidecar's YAML; ``file`` is its name in messages. Raises ConfigError."""
    top = read_yaml(file, text)
    claim = unique_addresses()
    name, spiffe_id = top.required("name", word), top.required("spiffe_id", workload_id)
    config = SidecarConfig(
        name=name,
        spiffe_id=spiffe_id,
        workload_api=_identity(top.section("identity")),
        inbound=tuple(_inbound(section, claim) for section in top.sections("inbound")),
        outbound=tuple(_outbound(section, claim) for section in top.sections("outbound")),
        workload=_workload(top.part("workload")),
        limits=_limits(top.section("limits")),
        health=top.optional("health", claim, None),
        workers=top.optional("workers", whole_number(1, MOST_WORKERS), 1),
    )
    top.finish()
    if not config.inbound and not config.outbound:
        top.complain("inbound", "wanted at least one inbound or outbound listener, got none")
    try:
        return with_workers(config, config.workers)
    except ConfigError as error:
        top.complain("workers", str(error).partition(": ")[2])


def with_workers(config: SidecarConfig, workers: int | None) -> SidecarConfig:
    """The same with so many workers, where a number is given. Raises ConfigError where they could not share a port."""
    if workers is None:
        return config
    ports = [door.listen.port for door in config.inbound] + [way.listen.port for way in config.outbound]
    ports += [config.health.port] if config.health else []
    if workers > 1 and not all(ports):
        raise ConfigError("workers: wanted a port other than 0 for each listener, since the workers share them")
    return msgspec.structs.replace(config, workers=workers)


def _inbound(section: Section, claim: Callable[[str], Address]) -> InboundConfig:
    mode = section.optional("mode", one_of(Mode), Mode.STRICT)
    listen, app = section.required("listen", claim), section.required("app", Address.parse)
    if leads_back(app, listen):
        section.complain("app", f"wanted another address than its own listen, got {app}: a connection would not end")
    if mode is Mode.DISABLE:
        for key in ("allow", "tls_min", "key_exchange", "tunnel", "destinations", "resumption"):
            if section.has(key):
                section.complain(key, "wanted no such key: mode DISABLE takes plaintext, which proves no identity")
        section.finish()
        return InboundConfig(listen=listen, app=app, mode=mode)
    allow = section.texts("allow", workload_id)
    tls_min = section.optional("tls_min", one_of(TlsMinimum), TlsMinimum.V1_3)
    key_exchange = section.optional("key_exchange", one_of(KeyExchange), KeyExchange.LIBRARY)
    tunnel = section.optional("tunnel", flag, False)
    destinations = section.texts("destinations", Address.parse) if section.has("destinations") else ()
    if destinations and not tunnel:
        section.complain("destinations", "wanted no such key without tunnel: true, whose streams name a destination")
    resumption = section.optional("resumption", flag, False)
    section.finish()
    return InboundConfig(
        listen=listen,
        app=app,
        mode=mode,
        allow=allow,
        tls_min=tls_min,
        key_exchange=key_exchange,
        tunnel=tunnel,
        destinations=destinations,
        resumption=resumption,
    )


def _outbound(section: Section, claim: Callable[[str], Address]) -> OutboundConfig:
    config = OutboundConfig(
        listen=section.required("listen", claim),
        to=section.required("to", Address.parse),
        peer=section.required("peer", workload_id),
        tls_min=section.optional("tls_min", one_of(TlsMinimum), TlsMinimum.V1_3),
        key_exchange=section.optional("key_exchange", one_of(KeyExchange), KeyExchange.LIBRARY),
        tunnel=section.optional("tunnel", flag, False),
        destination=section.optional("destination", Address.parse, None),
        resumption=section.optional("resumption", flag, False),
        warm=section.optional("warm", whole_number(0, _MOST_WARM), 0),
    )
    if leads_back(config.to, config.listen):
        section.complain("to", f"wanted another address than its own listen, got {config.to}: it would dial itself")
    if config.warm and config.tunnel:
        section.complain("warm", "wanted no such key with tunnel: true, whose connections need no handshake")
    if config.destination and not config.tunnel:
        section.complain("destination", "wanted no such key without tunnel: true, whose streams name a destination")
    section.finish()
    return config


def _identity(section: Section | None) -> WorkloadAddress | None:
    if section is None:
        return None
    workload_api = section.required("workload_api", _workload_api)
    section.finish()
    return workload_api


def _workload_api(text: str) -> WorkloadAddress:
    try:
        return parse_address(text)
    except ConfigError as error:
        raise RequestError(str(error)) from error  # the section adds the file, the line and the key


def _workload(section: Section) -> Workload:
    workload = Workload(
        cluster=section.optional("cluster", _label, ""),
        namespace=section.optional("namespace", _label, ""),
        deployment=section.optional("deployment", _label, ""),
        service=section.optional("service", _label, ""),
        version=section.optional("version", _label, ""),
    )
    section.finish()
    return workload


def _label(text: str) -> str:
    if not 0 < len(text) <= _LONGEST_LABEL:
        raise RequestError(f"wanted 1 to {_LONGEST_LABEL} characters, got {shown(text)}")
    return text


def _limits(section: Section | None) -> Limits:
    default = Limits()
    if section is None:
        return default
    number = whole_number(1, _MOST_CONNECTIONS)
    limits = Limits(
        connections=section.optional("connections", number, default.connections),
        unproven=section.optional("unproven", number, default.unproven),
        handshakes=section.optional("handshakes", number, default.handshakes),
        handshake_timeout=section.optional("handshake_timeout", parse_duration, default.handshake_timeout),
        connect_timeout=section.optional("connect_timeout", parse_duration, default.connect_timeout),
        idle_timeout=section.optional("idle_timeout", parse_duration, default.idle_timeout),
        detect_timeout=section.optional("detect_timeout", parse_duration, default.detect_timeout),
        drain=section.optional("drain", parse_duration, default.drain),
        withdrawal_grace=section.optional("withdrawal_grace", parse_duration, default.withdrawal_grace),
        tunnel_streams=section.optional("tunnel_streams", whole_number(1, _MOST_STREAMS), default.tunnel_streams),
        tunnel_window=section.optional("tunnel_window", size(1 << 16, 1 << 30), default.tunnel_window),
        tunnel_memory=section.optional("tunnel_memory", size(1 << 20, 1 << 40), default.tunnel_memory),
    )
    least = _WINDOWS_IN_MEMORY * limits.tunnel_window
    if limits.tunnel_memory < least:
        section.complain(
            "tunnel_memory" if section.has("tunnel_memory") else "tunnel_window",
            f"wanted tunnel_memory of at least {_WINDOWS_IN_MEMORY} times tunnel_window, which is {least} bytes,"
            f" got {limits.tunnel_memory}: one stream whose app does not read must not use it up",
        )
    section.finish()
    return limits
