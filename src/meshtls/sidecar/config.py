"""A sidecar's configuration: one YAML file, read into frozen structs, every complaint with file, line and key. Pure.

There is no default that lets a peer in: an inbound that speaks TLS must say who may come, and an empty list is nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path

import msgspec

from meshtls.errors import ConfigError, RequestError
from meshtls.scalars import whole_number, word
from meshtls.sidecar.address import Address
from meshtls.sidecar.scalars import flag, leads_back, one_of, parse_duration, unique_addresses, workload_id
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import Address as WorkloadAddress
from meshtls.workload.address import parse_address
from meshtls.yaml_reader import Section, read_yaml

__all__ = [
    "MOST_WORKERS",
    "InboundConfig",
    "KeyExchange",
    "Limits",
    "Mode",
    "OutboundConfig",
    "SidecarConfig",
    "TlsMinimum",
    "load_config",
    "parse_config",
    "parse_duration",
    "with_workers",
]

#: More than any machine holds; what is above is a slip of the hand.
MOST_WORKERS = 1024
_MOST_WARM = 10_000
_MOST_CONNECTIONS = 10_000_000


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


class KeyExchange(Enum):
    """Which key agreement a listener speaks. The library's own choice is the post-quantum hybrid, where it can that."""

    LIBRARY = "library"
    X25519 = "X25519"
    P256 = "P-256"
    P384 = "P-384"


class InboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One door for peers: ``listen`` takes their mutual TLS, ``app`` gets the plaintext.

    ``tunnel``: a peer that offers HTTP/2 in its handshake is taken to bring streams, each one CONNECT to ``app``, to
    the address that it dialled, or to one of ``destinations``. All others bring one connection each, as without it.
    ``resumption``: peers get tickets with which their next connection needs no full handshake.
    """

    listen: Address
    app: Address
    mode: Mode = Mode.STRICT
    allow: tuple[SpiffeId, ...] = ()
    tls_min: TlsMinimum = TlsMinimum.V1_3
    key_exchange: KeyExchange = KeyExchange.LIBRARY
    tunnel: bool = False
    destinations: tuple[Address, ...] = ()
    resumption: bool = False


class OutboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One door for the own app: ``listen`` takes its plaintext, ``to`` is dialled and must prove to be ``peer``.

    ``tunnel``: HTTP/2 is offered, and where the peer takes it, the app's connections share one of mutual TLS.
    ``destination`` is what is then asked for; the address that was dialled, unless given. ``resumption``: tickets that
    the peer gave are used. ``warm``: so many connections are kept handshaken ahead; the far app has them open, too.
    """

    listen: Address
    to: Address
    peer: SpiffeId
    tls_min: TlsMinimum = TlsMinimum.V1_3
    key_exchange: KeyExchange = KeyExchange.LIBRARY
    tunnel: bool = False
    destination: Address | None = None
    resumption: bool = False
    warm: int = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one sidecar; times in seconds, ``connections`` over all its listeners.

    ``handshakes`` may wait for their turn. With workers, each has these bounds for itself.
    """

    connections: int = 1024
    handshakes: int = 1024
    handshake_timeout: float = 5.0
    connect_timeout: float = 5.0
    idle_timeout: float = 300.0
    detect_timeout: float = 0.1
    drain: float = 10.0


class SidecarConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One sidecar. Its identity comes from the Workload API at ``workload_api``; without it, ``meshtls sidecar`` asks
    SPIFFE_ENDPOINT_SOCKET, and an embedding process gives the source itself.

    ``workers`` processes serve it.
    """

    name: str
    spiffe_id: SpiffeId
    workload_api: WorkloadAddress | None = None
    inbound: tuple[InboundConfig, ...] = ()
    outbound: tuple[OutboundConfig, ...] = ()
    limits: Limits = Limits()
    health: Address | None = None
    workers: int = 1


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


def _limits(section: Section | None) -> Limits:
    default = Limits()
    if section is None:
        return default
    number = whole_number(1, _MOST_CONNECTIONS)
    limits = Limits(
        connections=section.optional("connections", number, default.connections),
        handshakes=section.optional("handshakes", number, default.handshakes),
        handshake_timeout=section.optional("handshake_timeout", parse_duration, default.handshake_timeout),
        connect_timeout=section.optional("connect_timeout", parse_duration, default.connect_timeout),
        idle_timeout=section.optional("idle_timeout", parse_duration, default.idle_timeout),
        detect_timeout=section.optional("detect_timeout", parse_duration, default.detect_timeout),
        drain=section.optional("drain", parse_duration, default.drain),
    )
    section.finish()
    return limits
