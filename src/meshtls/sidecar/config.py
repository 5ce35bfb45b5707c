"""A sidecar's configuration: one YAML file, read into frozen structs, every complaint with file, line and key. Pure.

There is no default that lets a peer in: an inbound that speaks TLS must say who may come, and an empty list is nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path

import msgspec

from meshtls.errors import ConfigError
from meshtls.sidecar.address import Address
from meshtls.sidecar.scalars import count, one_of, parse_duration, unique_addresses, word
from meshtls.spiffeid import SpiffeId
from meshtls.yaml_reader import Section, read_yaml

__all__ = [
    "InboundConfig",
    "Limits",
    "Mode",
    "OutboundConfig",
    "SidecarConfig",
    "TlsMinimum",
    "load_config",
    "parse_config",
    "parse_duration",
]


class Mode(Enum):
    """What an inbound listener takes."""

    STRICT = "STRICT"
    """Mutual TLS and nothing else."""
    PERMISSIVE = "PERMISSIVE"
    """Mutual TLS, and plaintext from those that don't speak TLS: for a migration."""
    DISABLE = "DISABLE"
    """Plaintext; the bytes pass as they come."""


class TlsMinimum(Enum):
    """The oldest TLS version that a listener speaks."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class InboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One door for peers: ``listen`` takes their mutual TLS, ``app`` gets the plaintext."""

    listen: Address
    app: Address
    mode: Mode = Mode.STRICT
    allow: tuple[SpiffeId, ...] = ()
    tls_min: TlsMinimum = TlsMinimum.V1_3


class OutboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One door for the own app: ``listen`` takes its plaintext, ``to`` is dialled and must prove to be ``peer``."""

    listen: Address
    to: Address
    peer: SpiffeId
    tls_min: TlsMinimum = TlsMinimum.V1_3


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one sidecar; times in seconds, ``connections`` over all its listeners."""

    connections: int = 1024
    handshake_timeout: float = 5.0
    connect_timeout: float = 5.0
    idle_timeout: float = 300.0
    detect_timeout: float = 0.1
    drain: float = 10.0


class SidecarConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One sidecar. ``identity_socket`` is the CA's socket; None where the embedding process gives the source."""

    name: str
    spiffe_id: SpiffeId
    identity_socket: Path | None = None
    inbound: tuple[InboundConfig, ...] = ()
    outbound: tuple[OutboundConfig, ...] = ()
    limits: Limits = Limits()
    health: Address | None = None


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
    config = SidecarConfig(
        name=top.required("name", word),
        spiffe_id=top.required("spiffe_id", SpiffeId.parse),
        identity_socket=_identity(top.section("identity")),
        inbound=tuple(_inbound(section, claim) for section in top.sections("inbound")),
        outbound=tuple(_outbound(section, claim) for section in top.sections("outbound")),
        limits=_limits(top.section("limits")),
        health=top.optional("health", claim, None),
    )
    top.finish()
    if not config.inbound and not config.outbound:
        top.complain("inbound", "wanted at least one inbound or outbound listener, got none")
    return config


def _inbound(section: Section, claim: Callable[[str], Address]) -> InboundConfig:
    mode = section.optional("mode", one_of(Mode), Mode.STRICT)
    listen, app = section.required("listen", claim), section.required("app", Address.parse)
    if mode is Mode.DISABLE:
        for key in ("allow", "tls_min"):
            if section.has(key):
                section.complain(key, "wanted no such key: mode DISABLE takes plaintext, which proves no identity")
        section.finish()
        return InboundConfig(listen=listen, app=app, mode=mode)
    allow = section.texts("allow", SpiffeId.parse)
    tls_min = section.optional("tls_min", one_of(TlsMinimum), TlsMinimum.V1_3)
    section.finish()
    return InboundConfig(listen=listen, app=app, mode=mode, allow=allow, tls_min=tls_min)


def _outbound(section: Section, claim: Callable[[str], Address]) -> OutboundConfig:
    config = OutboundConfig(
        listen=section.required("listen", claim),
        to=section.required("to", Address.parse),
        peer=section.required("peer", SpiffeId.parse),
        tls_min=section.optional("tls_min", one_of(TlsMinimum), TlsMinimum.V1_3),
    )
    section.finish()
    return config


def _identity(section: Section | None) -> Path | None:
    if section is None:
        return None
    socket = section.required("socket", word)
    section.finish()
    return Path(socket)


def _limits(section: Section | None) -> Limits:
    default = Limits()
    if section is None:
        return default
    limits = Limits(
        connections=section.optional("connections", count, default.connections),
        handshake_timeout=section.optional("handshake_timeout", parse_duration, default.handshake_timeout),
        connect_timeout=section.optional("connect_timeout", parse_duration, default.connect_timeout),
        idle_timeout=section.optional("idle_timeout", parse_duration, default.idle_timeout),
        detect_timeout=section.optional("detect_timeout", parse_duration, default.detect_timeout),
        drain=section.optional("drain", parse_duration, default.drain),
    )
    section.finish()
    return limits
