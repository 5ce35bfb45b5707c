"""What a sidecar runs by: its doors, its bounds, its identity, as frozen structs. ``config`` reads them from a file."""

from __future__ import annotations

from enum import Enum

import msgspec

from meshtls.sidecar.address import Address
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import Address as WorkloadAddress

__all__ = [
    "InboundConfig",
    "KeyExchange",
    "Limits",
    "Mode",
    "OutboundConfig",
    "SidecarConfig",
    "TlsMinimum",
    "Workload",
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

    ``unproven`` inbound connections besides may be there whose peer is not verified and authorized yet, or, where
    plaintext is taken, on which neither side has spoken; at the limit the oldest give way to new ones. ``handshakes``
    may wait for their turn. ``withdrawal_grace`` is how long live connections may go on after the Workload API withdrew
    our identity. A peer may have ``tunnel_streams`` open in one tunnel, and ``tunnel_window`` bytes under way on each;
    ``tunnel_memory`` bytes are kept for apps that do not read, over all tunnels. With workers, each has these bounds
    for itself.
    """

    connections: int = 1024
    unproven: int = 1024
    handshakes: int = 1024
    handshake_timeout: float = 5.0
    connect_timeout: float = 5.0
    idle_timeout: float = 300.0
    detect_timeout: float = 0.1
    drain: float = 10.0
    withdrawal_grace: float = 10.0
    tunnel_streams: int = 1024
    tunnel_window: int = 1 << 24
    tunnel_memory: int = 1 << 28


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a tunnel's peers are told of this workload, for their telemetry alone; "" is not said. ``namespace`` and
    ``service`` are by default those of the SPIFFE ID and the sidecar's name.
    """

    cluster: str = ""
    namespace: str = ""
    deployment: str = ""
    service: str = ""
    version: str = ""


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
    workload: Workload = Workload()
    limits: Limits = Limits()
    health: Address | None = None
    workers: int = 1
