"""Two real sidecars, an app and the lines they log, each in one ``async with``."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.clock import Clock
from meshtls.observe.access_log import AccessLog
from meshtls.sidecar.crl_files import CrlKeys
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, OutboundConfig, SidecarConfig, TlsMinimum
from meshtls.sidecar.tracing.keys import TracingKeys
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context, X509ContextSource
from tests.support.authority import context_for, make_authority
from tests.support.waiting import SECONDS

OURS = make_authority("example.org")
PARTNER = make_authority("partner.test")
FOREIGN = make_authority("example.org")  # the same name, other keys
A = SpiffeId.parse("spiffe://example.org/ns/default/sa/service-a")
B = SpiffeId.parse("spiffe://example.org/ns/default/sa/service-b")
OTHER = SpiffeId.parse("spiffe://example.org/ns/default/sa/other")
ANYWHERE = Address("127.0.0.1", 0)
#: A handshake of a test that is about something else may take as long as a busy machine needs.
DEFAULTS = Limits(handshake_timeout=60, connect_timeout=60)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def patient(**limits: Any) -> Limits:
    """DEFAULTS with these limits."""
    return msgspec.structs.replace(DEFAULTS, **limits)


class Lines(io.StringIO):
    """The stream under an AccessLog: each line can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._queue.put_nowait(json.loads(line))
        return super().write(text)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            return await self._queue.get()

    async def the(self, outcome: str) -> dict[str, Any]:
        """The next line with this outcome."""
        while (line := await self.next())["outcome"] != outcome:
            pass
        return line

    async def outcome(self) -> str:
        return str((await self.next())["outcome"])


@dataclass
class App:
    """Echoes what it gets, after a greeting if it has one. ``ended`` says how each connection ended."""

    greeting: bytes = b""
    connections: int = 0
    received: int = 0
    address: Address = ANYWHERE
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(self.greeting)
        try:
            while data := await reader.read(1 << 16):
                self.received += len(data)
                writer.write(data)
                await writer.drain()
            self.ended.put_nowait("EOF")
        except ConnectionError:
            self.ended.put_nowait("reset")
        finally:
            writer.close()


@dataclass(frozen=True)
class Node:
    """A running sidecar and its log."""

    sidecar: Sidecar
    lines: Lines

    @property
    def inbound(self) -> Address:
        return self.sidecar.inbound[0].address

    @property
    def outbound(self) -> Address:
        return self.sidecar.outbound[0].address


@contextlib.asynccontextmanager
async def an_app(greeting: bytes = b"") -> AsyncIterator[App]:
    app = App(greeting)
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0, backlog=1024)
    async with server:
        app.address = Address(*server.sockets[0].getsockname()[:2])
        yield app


@contextlib.asynccontextmanager
async def running(config: SidecarConfig, source: X509ContextSource, clock: Clock | None = None) -> AsyncIterator[Node]:
    lines = Lines()
    async with Sidecar(config, source, on_result=AccessLog(lines), clock=clock) as sidecar:
        yield Node(sidecar, lines)


@contextlib.asynccontextmanager
async def side_b(
    app: Address,
    *,
    allow: tuple[SpiffeId, ...] = (A,),
    mode: Mode = Mode.STRICT,
    tls_min: TlsMinimum = TlsMinimum.V1_3,
    limits: Limits = DEFAULTS,
    source: X509ContextSource | None = None,
    clock: Clock | None = None,
    tunnel: bool = False,
    destinations: tuple[Address, ...] = (),
    resumption: bool = False,
    crls: tuple[CrlKeys, ...] = (),
    admin: AdminKeys | None = None,
    metrics: Address | None = None,
    tracing: TracingKeys | None = None,
) -> AsyncIterator[Node]:
    """The serving side: it is B, trusts its own domain and a partner's, and lets A in, unless told otherwise."""
    source = source or ConstantSource(as_b())
    door = InboundConfig(
        listen=ANYWHERE,
        app=app,
        mode=mode,
        allow=allow,
        tls_min=tls_min,
        tunnel=tunnel,
        destinations=destinations,
        resumption=resumption,
    )
    own_id = source.snapshot().svid.spiffe_id
    config = SidecarConfig(
        name="b",
        spiffe_id=own_id,
        inbound=(door,),
        limits=limits,
        health=ANYWHERE,
        crls=crls,
        admin=admin,
        metrics=metrics,
        tracing=tracing,
    )
    async with running(config, source, clock) as node:
        yield node


@contextlib.asynccontextmanager
async def side_a(
    to: Address,
    context: X509Context | X509ContextSource | None = None,
    *,
    peer: SpiffeId = B,
    limits: Limits = DEFAULTS,
    clock: Clock | None = None,
    tunnel: bool = False,
    destination: Address | None = None,
    resumption: bool = False,
    warm: int = 0,
    admin: AdminKeys | None = None,
    tracing: TracingKeys | None = None,
) -> AsyncIterator[Node]:
    """The calling side: it is whoever its context says, A unless given, and wants to meet B."""
    source = ConstantSource(context) if isinstance(context, X509Context) else context or ConstantSource(as_a())
    door = OutboundConfig(
        listen=ANYWHERE,
        to=to,
        peer=peer,
        tunnel=tunnel,
        destination=destination,
        resumption=resumption,
        warm=warm,
    )
    own_id = source.snapshot().svid.spiffe_id
    config = SidecarConfig(name="a", spiffe_id=own_id, outbound=(door,), limits=limits, admin=admin, tracing=tracing)
    async with running(config, source, clock) as node:
        yield node


async def opened(address: Address) -> socket.socket:
    """A connection that counts as open even where a sidecar on a loop of its own resets it at once.

    The kernel completes a connection over loopback within the first `connect`. Asking again only reports that, before
    a sidecar on another thread has had the time to accept and reset: waiting for the loop would report the reset as a
    failure to connect.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.connect_ex((address.host, address.port))
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def connected(address: Address, context: ssl.SSLContext | None = None) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(
        sock=await opened(address), ssl=context, server_hostname="" if context else None
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def echoed(streams: Streams, message: bytes = b"ping") -> bytes:
    """Send, and read as many bytes back; fewer where the other side ends first."""
    reader, writer = streams
    writer.write(message)
    try:
        async with asyncio.timeout(SECONDS):
            return await reader.readexactly(len(message))
    except asyncio.IncompleteReadError as error:
        return error.partial


async def rest(streams: Streams) -> bytes:
    """Everything up to the end; raises what the connection broke with."""
    async with asyncio.timeout(SECONDS):
        return await streams[0].read()


def as_a() -> X509Context:
    return context_for(OURS, A)


def as_b() -> X509Context:
    return context_for(OURS, B, federated=[PARTNER.bundle])
