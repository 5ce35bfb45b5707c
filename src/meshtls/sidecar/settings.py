"""What a sidecar runs by, as frozen structs. The fields declare the keys of its file, and ``config`` reads them."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, ClassVar

import msgspec

from meshtls.address import Address
from meshtls.config.keys import (
    ADDRESS,
    COUNT,
    FLAG,
    LOG_LEVEL,
    SECONDS,
    TEXT,
    WORKLOAD_ID,
    Key,
    Value,
    choice,
    number,
    size_between,
)
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import ConfigError, RequestError
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import Address as WorkloadAddress
from meshtls.workload.address import parse_address

__all__ = [
    "MOST_WORKERS",
    "InboundConfig",
    "KeyExchange",
    "Limits",
    "Mode",
    "OutboundConfig",
    "SidecarConfig",
    "SidecarFile",
    "TlsMinimum",
    "Workload",
    "leads_back",
]

#: More than any machine has; a higher number is a mistake.
MOST_WORKERS = 1024
_MOST_WARM = 10_000
_MOST_STREAMS = 100_000
_LONGEST_LABEL = 253  # that of a name in Kubernetes
_WINDOWS_IN_MEMORY = 4
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound
_LOOPBACK = ("127.0.0.1", "::1")


def leads_back(target: Address, listen: Address) -> bool:
    """Whether what is dialled at ``target`` is this listener itself, as far as their texts say."""
    if not listen.port or target.port != listen.port:
        return False
    if listen.host in _EVERYWHERE:
        return _is_here(target.host)
    pair = {target.host, listen.host}
    return len(pair) == 1 or ("localhost" in pair and not pair.isdisjoint(_LOOPBACK))


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1", *_EVERYWHERE) or host.startswith("127.")


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


def _workload_api(text: str) -> WorkloadAddress:
    try:
        return parse_address(text)
    except ConfigError as error:
        raise RequestError(str(error)) from error  # the reading adds file, line and key


def _label(text: str) -> str:
    if not 0 < len(text) <= _LONGEST_LABEL:
        raise RequestError(f"wanted 1 to {_LONGEST_LABEL} characters, got {shown(text)}")
    return text


_LABEL: Value[str] = Value("text", _label, {"type": "string", "minLength": 1, "maxLength": _LONGEST_LABEL})
_WORKLOAD_API: Value[WorkloadAddress] = Value(
    "unix:///path or tcp://IP:port", _workload_api, {"type": "string", "pattern": "^[A-Za-z]+:"}
)
_TLS_MINIMUM, _KEY_EXCHANGE = choice(TlsMinimum), choice(KeyExchange)


def _app_is_not_its_own_listener(listen: Address, app: Address) -> RuleProblems:
    if leads_back(app, listen):
        yield "app", f"wanted another address than its own listen, got {app}: a connection would not end"


def _plaintext_has_no_identity(mode: Mode, found: Found[InboundConfig]) -> RuleProblems:
    if mode is Mode.DISABLE:
        for field in found.given:
            if field not in ("listen", "app", "mode"):
                yield field, "wanted no such key: mode DISABLE takes plaintext, which proves no identity"
    elif "allow" not in found.given:
        yield "allow", "this key is required, and it is missing"


def _destinations_are_of_a_tunnel(destinations: tuple[Address, ...], tunnel: bool, mode: Mode) -> RuleProblems:
    if destinations and not tunnel and mode is not Mode.DISABLE:
        yield "destinations", "wanted no such key without tunnel: true, whose streams name a destination"


class InboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One listener for peers: ``listen`` takes their mutual TLS, ``app`` gets the plaintext."""

    listen: Annotated[Address, Key("Where peers connect.", ADDRESS)]
    app: Annotated[Address, Key("The app, which gets the plaintext.", ADDRESS)]
    mode: Annotated[
        Mode,
        Key(
            "STRICT takes mutual TLS and nothing else. PERMISSIVE takes plaintext, too, from those that do not speak"
            " TLS: for a migration. DISABLE takes plaintext, and the bytes pass as they come.",
            choice(Mode),
        ),
    ] = Mode.STRICT
    allow: Annotated[
        tuple[SpiffeId, ...],
        Key(
            "The SPIFFE IDs that may connect; an empty list is nobody.",
            WORKLOAD_ID,
            required="unless mode is DISABLE",
        ),
    ] = ()
    tls_min: Annotated[TlsMinimum, Key("The oldest TLS version that is spoken.", _TLS_MINIMUM)] = TlsMinimum.V1_3
    key_exchange: Annotated[
        KeyExchange,
        Key(
            "The key agreement. The library's own choice is the post-quantum hybrid where OpenSSL has it.",
            _KEY_EXCHANGE,
        ),
    ] = KeyExchange.LIBRARY
    tunnel: Annotated[
        bool,
        Key(
            "A peer that offers HTTP/2 in its handshake brings streams, each one CONNECT to the app, to the address"
            " that it dialled, or to one of destinations. All others bring one connection each.",
            FLAG,
        ),
    ] = False
    destinations: Annotated[
        tuple[Address, ...], Key("What the streams of a tunnel may also ask for; the app is behind all of it.", ADDRESS)
    ] = ()
    resumption: Annotated[
        bool, Key("Peers get tickets with which their next connection needs no full handshake.", FLAG)
    ] = False

    RULES: ClassVar[tuple[Rule, ...]] = (
        _app_is_not_its_own_listener,
        _plaintext_has_no_identity,
        _destinations_are_of_a_tunnel,
    )


def _does_not_dial_itself(listen: Address, to: Address) -> RuleProblems:
    if leads_back(to, listen):
        yield "to", f"wanted another address than its own listen, got {to}: it would dial itself"


def _warm_or_tunnel(warm: int, tunnel: bool) -> RuleProblems:
    if warm and tunnel:
        yield "warm", "wanted no such key with tunnel: true, whose connections need no handshake"


def _destination_is_of_a_tunnel(destination: Address | None, tunnel: bool) -> RuleProblems:
    if destination and not tunnel:
        yield "destination", "wanted no such key without tunnel: true, whose streams name a destination"


class OutboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One listener for the own app: ``listen`` takes its plaintext, ``to`` is dialled and must prove to be ``peer``."""

    listen: Annotated[Address, Key("Where the own app connects: on loopback.", ADDRESS)]
    to: Annotated[Address, Key("The address that is dialled: the peer's sidecar.", ADDRESS)]
    peer: Annotated[SpiffeId, Key("The SPIFFE ID that whoever answers there must prove.", WORKLOAD_ID)]
    tls_min: Annotated[TlsMinimum, Key("The oldest TLS version that is spoken.", _TLS_MINIMUM)] = TlsMinimum.V1_3
    key_exchange: Annotated[KeyExchange, Key("The key agreement, as for inbound.", _KEY_EXCHANGE)] = KeyExchange.LIBRARY
    tunnel: Annotated[
        bool,
        Key("HTTP/2 is offered, and where the peer takes it, the app's connections share one of mutual TLS.", FLAG),
    ] = False
    destination: Annotated[
        Address | None,
        Key("What the streams of a tunnel ask for.", ADDRESS, default="the address that is dialled"),
    ] = None
    resumption: Annotated[bool, Key("Tickets that the peer gave are used.", FLAG)] = False
    warm: Annotated[
        int,
        Key(
            "So many connections are kept handshaken ahead; the far app has them open, too.",
            number(0, _MOST_WARM),
        ),
    ] = 0

    RULES: ClassVar[tuple[Rule, ...]] = (_does_not_dial_itself, _warm_or_tunnel, _destination_is_of_a_tunnel)


def _memory_holds_windows(tunnel_window: int, tunnel_memory: int, found: Found[Limits]) -> RuleProblems:
    least = _WINDOWS_IN_MEMORY * tunnel_window
    if tunnel_memory < least:
        yield (
            "tunnel_memory" if "tunnel_memory" in found.given else "tunnel_window",
            f"wanted tunnel_memory of at least {_WINDOWS_IN_MEMORY} times tunnel_window, which is {least} bytes,"
            f" got {tunnel_memory}: one stream whose app does not read must not use it up",
        )


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one sidecar; times in seconds. With workers, each has these bounds for itself."""

    connections: Annotated[int, Key("Connections at once, over all listeners.", COUNT)] = 1024
    unproven: Annotated[
        int,
        Key(
            "Inbound connections besides, whose peer is not verified and authorized yet, or, where plaintext is taken,"
            " on which neither side has spoken; at the limit the oldest give way to new ones.",
            COUNT,
        ),
    ] = 1024
    handshakes: Annotated[int, Key("Handshakes that may wait for their turn.", COUNT)] = 1024
    handshake_timeout: Annotated[float, Key("For a handshake from its first byte to its end.", SECONDS)] = 5.0
    connect_timeout: Annotated[float, Key("For dialling the peer or the app.", SECONDS)] = 5.0
    idle_timeout: Annotated[float, Key("A connection without a byte for so long is closed.", SECONDS)] = 300.0
    detect_timeout: Annotated[
        float, Key("In mode PERMISSIVE, how long a client may say nothing before it is taken for plaintext.", SECONDS)
    ] = 0.1
    drain: Annotated[
        float,
        Key(
            "At a stop, how long connections may go on before they are cut.",
            SECONDS,
            name="drain_timeout",
            old=("drain",),
        ),
    ] = 10.0
    withdrawal_grace: Annotated[
        float, Key("How long live connections may go on after our identity was withdrawn.", SECONDS)
    ] = 10.0
    tunnel_streams: Annotated[
        int, Key("Streams that a peer may have open in one tunnel.", number(1, _MOST_STREAMS))
    ] = 1024
    tunnel_window: Annotated[
        int,
        Key(
            "Bytes that a peer may send on one stream before the app reads. Envoy cuts answers short with less than the"
            " default.",
            size_between(1 << 16, 1 << 30),
        ),
    ] = 1 << 24
    tunnel_memory: Annotated[
        int,
        Key(
            "Bytes kept for apps that do not read, over all tunnels: at least four times tunnel_window.",
            size_between(1 << 20, 1 << 40),
        ),
    ] = 1 << 28

    RULES: ClassVar[tuple[Rule, ...]] = (_memory_holds_windows,)


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a tunnel's peers are told of this workload, for their telemetry alone; "" is not said."""

    cluster: Annotated[str, Key("Its cluster.", _LABEL, default="not said")] = ""
    namespace: Annotated[str, Key("Its namespace.", _LABEL, default="that of the SPIFFE ID")] = ""
    deployment: Annotated[str, Key("Its deployment.", _LABEL, default="not said")] = ""
    service: Annotated[str, Key("Its service.", _LABEL, default="the sidecar's name")] = ""
    version: Annotated[str, Key("Its version.", _LABEL, default="not said")] = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sidecar's SVID comes from."""

    workload_api: Annotated[WorkloadAddress, Key("The Workload API's address.", _WORKLOAD_API)]


def _each_address_once(found: Found[SidecarFile]) -> RuleProblems:
    taken = set()
    for at in ("inbound.listen", "outbound.listen", "health"):
        for place, address in found.every(at):
            if address.port and address in taken:
                yield place, f"wanted an address that no other listener has, got {address} again"
            taken.add(address)


def _has_a_listener(inbound: tuple[InboundConfig, ...], outbound: tuple[OutboundConfig, ...]) -> RuleProblems:
    if not inbound and not outbound:
        yield "inbound", "wanted at least one inbound or outbound listener, got none"


def _workers_share_ports(workers: int, found: Found[SidecarFile]) -> RuleProblems:
    addresses = [address for at in ("inbound.listen", "outbound.listen", "health") for _, address in found.every(at)]
    if workers > 1 and not all(address.port for address in addresses):
        yield "workers", "wanted a port other than 0 for each listener, since the workers share them"


class SidecarFile(msgspec.Struct, frozen=True, kw_only=True):
    """A sidecar's file, key by key."""

    name: Annotated[str, Key("What this sidecar is called in its access log.", TEXT)]
    spiffe_id: Annotated[SpiffeId, Key("Who this sidecar is; the Workload API has to have an SVID of it.", WORKLOAD_ID)]
    identity: Annotated[
        Identity | None, Key("Where the SVID comes from.", default="what SPIFFE_ENDPOINT_SOCKET says")
    ] = None
    inbound: Annotated[tuple[InboundConfig, ...], Key("Listeners for peers.", live=True)] = ()
    outbound: Annotated[tuple[OutboundConfig, ...], Key("Listeners for the own app.", live=True)] = ()
    workload: Annotated[
        Workload, Key("What tunnels' peers are told of this workload, for their telemetry.", live=True)
    ] = Workload()
    limits: Annotated[Limits, Key("Bounds on what the sidecar spends.", live=True)] = Limits()
    health: Annotated[
        Address | None, Key("Where /live and /ready are answered, in plaintext.", ADDRESS, default="nowhere")
    ] = None
    workers: Annotated[int, Key("Processes that serve.", number(1, MOST_WORKERS))] = 1
    log_level: Annotated[str, Key("The lowest level that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"

    RULES: ClassVar[tuple[Rule, ...]] = (_each_address_once, _has_a_listener, _workers_share_ports)


class SidecarConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One sidecar. Its identity comes from the Workload API at ``workload_api``; without it, ``meshtls sidecar`` asks
    SPIFFE_ENDPOINT_SOCKET, and an embedding process gives the source itself.

    ``workers`` processes serve it. ``notices`` are what the operator is to know about the file.
    """

    name: str
    spiffe_id: SpiffeId
    workload_api: WorkloadAddress | None = None
    inbound: tuple[InboundConfig, ...] = ()
    outbound: tuple[OutboundConfig, ...] = ()
    workload: Workload = Workload()
    limits: Limits = Limits()
    health: Address | None = None
    workers: int = 1
    log_level: str = "INFO"
    notices: tuple[str, ...] = ()
