"""The bounds of a tunnel, whatever its peer allows: streams, timeouts, memory, and unneeded sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes

from meshtls.address import Address
from meshtls.sidecar import handshake
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import dial
from meshtls.sidecar.tunnel import session
from meshtls.svid.context import ConstantSource
from meshtls.wire.http2.frames import Kind, frame
from meshtls.wire.http2.settings import Setting
from tests.integration.sidecar.mesh import OURS, B, Streams, an_app, connected, echoed, patient, rest, side_a, side_b
from tests.integration.sidecar.tunnel.test_tunnel_peers import H2Peer, context
from tests.support.authority import context_for
from tests.support.clock import ManualClock
from tests.support.waiting import SECONDS, SHORT_IDLE, until

WIDEST = (1 << 31) - 1


@contextlib.asynccontextmanager
async def a_peer(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Address]:
    """A server that has B's identity and speaks HTTP/2, and is no sidecar."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    async with await asyncio.start_server(serve, sock=sock, ssl=context(server_side=True)):
        yield Address(*sock.getsockname()[:2])


# -- streams --


async def test_a_peer_that_allows_a_thousand_streams_gets_a_hundred_on_each_tunnel() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = H2Peer((reader, writer), client=False)
        peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
        place = len(most)
        most.append(0)
        async for event in peer.events():
            if isinstance(event, RequestReceived):
                peer.h2.send_headers(event.stream_id or 0, [(":status", "200")])
                most[place] = max(most[place], peer.h2.open_inbound_streams)
            elif isinstance(event, DataReceived):
                peer.h2.send_data(event.stream_id or 0, event.data or b"")
            elif isinstance(event, StreamEnded):
                peer.h2.end_stream(event.stream_id or 0)
        writer.close()

    most: list[int] = []
    async with a_peer(serve) as to, side_a(to, tunnel=True) as a, contextlib.AsyncExitStack() as stack:
        for _ in range(130):
            streams = await stack.enter_async_context(connected(a.outbound))
            assert await echoed(streams) == b"ping"
    assert most == [100, 30]


# -- times --


@pytest.mark.parametrize(("seconds", "outcome"), [(599, "OK"), (601, "PEER_CERT_NOT_CURRENT")])
async def test_a_tunnel_whose_peers_certificate_has_ended_takes_no_new_stream(seconds: float, outcome: str) -> None:
    clock, theirs = ManualClock(), ConstantSource(context_for(OURS, B, ttl=timedelta(minutes=10)))
    async with (
        an_app() as app,
        side_b(app.address, source=theirs, tunnel=True) as b,
        side_a(b.inbound, tunnel=True, clock=clock) as a,
    ):
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            streams[1].write_eof()
        assert await a.lines.outcome() == "OK"
        clock.advance(seconds)
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == (b"ping" if outcome == "OK" else b"")
            streams[1].write_eof()
        line = await a.lines.next()
        assert (line["outcome"], line["handshake_ms"] is None) == (outcome, outcome == "OK")
    assert app.connections == (2 if outcome == "OK" else 1)


@pytest.mark.parametrize(
    ("caller", "called"), [(SHORT_IDLE, 300), (300, SHORT_IDLE)], ids=["the caller's", "the called one's"]
)
async def test_the_idle_timeout_of_either_side_releases_a_tunnel_without_streams(
    caller: float, called: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_FORCED_IDLE_FACTOR", 10**6)  # nobody is cut off: it is let go of
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True, limits=patient(idle_timeout=called)) as b,
        side_a(b.inbound, tunnel=True, limits=patient(idle_timeout=caller)) as a,
    ):
        for _ in range(2):
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
                streams[1].write_eof()
            line = await a.lines.next()
            assert (line["outcome"], line["handshake_ms"] is None) == ("OK", False)
            await until(lambda: len(b.sidecar.registry) == 0)


async def test_a_peer_without_http2_is_not_offered_it_again_for_a_minute() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def used_once() -> None:
        async with connected(a.outbound) as streams:
            streams[1].write(b"ping")
            if len(chosen) < 2 or clock.monotonic() < 60:
                assert await streams[0].readexactly(4) == b"ping"
            else:
                with contextlib.suppress(ConnectionResetError):
                    await rest(streams)  # an echo is no HTTP/2

    chosen: list[str | None] = []
    clock, tls = ManualClock(), context(server_side=True, alpn="http/1.1")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    to = Address(*server.sockets[0].getsockname()[:2])
    async with server, side_a(to, tunnel=True, clock=clock) as a:
        await used_once()
        tls.set_alpn_protocols(["h2"])
        for seconds in (0, 59, 2):
            clock.advance(seconds)
            await used_once()
    assert chosen == [None, None, None, "h2"]


# -- memory --


async def test_a_peer_that_does_not_read_holds_up_the_app_however_wide_its_windows_are() -> None:
    size = 32 << 20  # more than the kernel's buffers on the way take

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", Setting.INITIAL_WINDOW_SIZE, WIDEST)))
        writer.write(frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">L", WIDEST - (1 << 16))))
        writer.write(frame(Kind.HEADERS, 4, 1, b"\x88"))
        await read_on.wait()
        while data := await reader.read(1 << 18):
            arrived.append(len(data))
        writer.close()

    read_on, arrived = asyncio.Event(), list[int]()
    async with a_peer(serve) as to, side_a(to, tunnel=True) as a, connected(a.outbound) as (_, writer):
        writer.write(bytes(size))
        writer.write_eof()
        left = await at_rest(writer.transport.get_write_buffer_size)
        assert size / 4 < left < size, "much of it still is the app's to keep"
        read_on.set()
        async with asyncio.timeout(SECONDS):
            while sum(arrived) < size:  # noqa: ASYNC110  # there is no event
                await asyncio.sleep(0)


async def at_rest(size: Callable[[], int]) -> int:
    """What it gives once it has been the same for 200 rounds of the loop."""
    last, rounds = -1, 0
    async with asyncio.timeout(SECONDS):
        while rounds < 200:
            await asyncio.sleep(0)
            now = size()
            last, rounds = now, rounds + 1 if now == last else 0
    return last


# -- sockets --


@pytest.fixture
def no_room() -> Iterator[Address]:
    """An app that accepts nobody, and whose kernel takes no more connections for it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as app, contextlib.ExitStack() as stack:
        place = app.getsockname()
        while True:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.2)
            try:
                sock.connect(place)
            except TimeoutError:
                sock.close()
                break
        yield Address(*place)


def being_dialled(address: Address) -> int:
    """How many sockets of this machine are on their way to there."""
    syn_sent, place = "02", f":{address.port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(place) and row[3] == syn_sent for row in rows)


async def test_a_stream_that_ends_while_its_app_is_dialled_leaves_no_socket(no_room: Address) -> None:
    limits = patient(connect_timeout=60)
    async with (
        side_b(no_room, tunnel=True, limits=limits) as b,
        side_a(b.inbound, tunnel=True, limits=limits) as a,
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(b"ping")
            await until(lambda: being_dialled(no_room) == 1)
            _reset(streams)
        assert (await b.lines.next())["detail"] == "the peer reset the stream: CONNECT_ERROR"
        await until(lambda: being_dialled(no_room) == 0)


async def test_an_app_that_is_reached_after_its_stream_has_ended_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial may be through before it hears that it was cancelled."""

    async def through_all_the_same(address: Address, poller: Poller, timeout: float | None = None) -> socket.socket:
        if address.port == app.address.port:  # the peer is dialled as ever
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return await dial(address, poller, timeout)

    begun = asyncio.Event()
    async with (
        an_app() as app,
        side_b(Address("localhost", app.address.port), tunnel=True) as b,  # a name is not dialled at once
        side_a(b.inbound, tunnel=True) as a,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(handshake, "dial", through_all_the_same)
            async with connected(a.outbound) as streams:
                await asyncio.wait_for(begun.wait(), SECONDS)
                _reset(streams)
            assert await b.lines.outcome() == "RESET"
            assert await asyncio.wait_for(app.ended.get(), SECONDS) == "reset"
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"


def _reset(streams: Streams) -> None:
    sock = streams[1].get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams[1].transport.abort()
