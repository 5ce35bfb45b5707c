"""What the tests of the whole path do not show: dialling at once, the exit, deferred calls, a silent peer."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from meshtls.address import Address
from meshtls.bundle import BundleSet
from meshtls.clock import SystemClock
from meshtls.errors import NotAuthorizedError
from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.poller import poller_of
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.settings import Limits
from meshtls.sidecar.sockets import dial_at_once
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.wire.http2.connection import DRAIN_PING
from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, frame
from meshtls.wire.http2.settings import Setting
from tests.integration.sidecar.mesh import A, B, an_app, connected, echoed, patient, rest, side_a, side_b
from tests.integration.sidecar.tunnel.test_tunnel_peers import context
from tests.support.authority import Leaf, make_authority, mint_raw
from tests.support.clock import ManualClock
from tests.support.waiting import SECONDS


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_listening_app_on_loopback_is_connected_at_once(listener: socket.socket) -> None:
    sock = dial_at_once(Address("127.0.0.1", listener.getsockname()[1]))
    assert sock is not None
    with sock:
        assert sock.getpeername() == listener.getsockname()
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "address", [Address("127.0.0.1", 1), Address("localhost", 1), Address("192.0.2.1", 1), Address("::1", 1)]
)
def test_an_address_that_is_not_there_at_once_is_left_to_dial(address: Address) -> None:
    assert dial_at_once(address) is None


def a_stream(sock: socket.socket) -> Connection:
    return Connection("a", A, Direction.INBOUND, sock, "127.0.0.1:1", SystemClock(), is_stream=True)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.OK),
        (EndedError(Outcome.RESET, "broken"), Outcome.RESET),
        (NotAuthorizedError("no"), Outcome.POLICY_DENIED),
        (ZeroDivisionError("a defect"), Outcome.INTERNAL_ERROR),
    ],
)
async def test_a_stream_is_listed_while_it_lives_and_reported_once(
    listener: socket.socket, error: Exception | None, outcome: Outcome
) -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what["message"]))
    results: list[ConnectionResult] = []
    registry, connection = Registry(1), a_stream(listener)
    registry.enter(connection, lambda error: None)
    assert (len(registry), registry.full) == (1, True)
    registry.leave(connection)
    assert Reporter(results.append, running_reactor().poller).report(connection, error) is outcome
    assert (len(registry), registry.full) == (0, False)
    assert [result.outcome for result in results] == [outcome]
    assert told == (["sidecar a: a stream failed"] if outcome is Outcome.INTERNAL_ERROR else [])


async def test_a_registered_stream_is_ended_by_its_callback(listener: socket.socket) -> None:
    ended: list[EndedError] = []
    registry, connection = Registry(1), a_stream(listener)
    registry.enter(connection, ended.append)
    registry.end_all(Outcome.DRAINED, "stopping")
    registry.end_all(Outcome.RESET, "a second time")
    assert [(error.outcome, str(error)) for error in ended] == [(Outcome.DRAINED, "stopping")]


@pytest.mark.parametrize("kind", ["epoll", "add_reader"])
async def test_deferred_calls_come_once_after_the_sockets_of_a_wake_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "add_reader":
        monkeypatch.delattr(select, "epoll")
    calls: list[str] = []
    done, poller = asyncio.Event(), poller_of(asyncio.get_running_loop())
    pairs = [socket.socketpair() for _ in range(2)]

    def deferred() -> None:
        calls.append("deferred")
        done.set()

    def ready(sock: socket.socket) -> None:
        calls.append(sock.recv(1).decode())
        if len(calls) == 1:
            poller.defer(deferred)

    for number, (one, other) in enumerate(pairs):
        other.send(str(number).encode())
        poller.watch(one, partial(ready, one), None)
    await asyncio.wait_for(done.wait(), SECONDS)
    assert sorted(calls[:2]) == ["0", "1"]
    assert calls[2:] == ["deferred"]
    for one, other in pairs:
        poller.watch(one, None, None)
        one.close()
        other.close()


async def test_a_peer_that_does_not_answer_is_given_up_and_dialled_anew() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.append(writer)
        writer.write(b"\0\0\0\4\0\0\0\0\0")  # SETTINGS, and not a word more
        await reader.read()
        writer.close()

    tunnels: list[asyncio.StreamWriter] = []
    limits = Limits(connect_timeout=0.2, handshake_timeout=1)
    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context(server_side=True))
    to = Address(*server.sockets[0].getsockname()[:2])
    async with server, side_a(to, tunnel=True, limits=limits) as a:
        for _ in range(2):
            async with connected(a.outbound) as streams:
                with pytest.raises(ConnectionResetError):
                    await rest(streams)
            line = await a.lines.next()
            assert (line["outcome"], line["detail"]) == (
                "CONNECT_FAILED",
                "the peer did not answer CONNECT within 1.2 s",
            )
    assert len(tunnels) == 2


async def test_no_spare_tunnels_are_opened_to_a_peer_that_allows_no_streams() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        live.add(writer)
        most.append(len(live))
        writer.write(frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", Setting.MAX_CONCURRENT_STREAMS, 0)))
        writer.write(frame(Kind.RST_STREAM, 0, 1, struct.pack(">L", ErrorCode.REFUSED_STREAM)))
        await reader.read(100)
        while await reader.read(1 << 16):
            pass
        live.discard(writer)
        writer.close()

    live: set[asyncio.StreamWriter] = set()
    most: list[int] = []
    server = await asyncio.start_server(refuses, "127.0.0.1", 0, ssl=context(server_side=True))
    to = Address(*server.sockets[0].getsockname()[:2])
    async with server, side_a(to, tunnel=True) as a:
        for _ in range(4):
            async with connected(a.outbound) as streams:
                with pytest.raises(ConnectionResetError):
                    await rest(streams)
            assert await a.lines.outcome() == "STREAM_REFUSED"
    assert max(most) <= 2, "the next one, and one that is just being left"


@pytest.mark.parametrize("says", [b"", PREFACE + frame(Kind.SETTINGS, 0, 0, b"")])
async def test_a_tunnel_that_its_peer_neither_uses_nor_closes_is_closed(says: bytes) -> None:
    limits = patient(idle_timeout=0.1)
    async with an_app() as app, side_b(app.address, tunnel=True, limits=limits) as b:
        async with connected(b.inbound, context(server_side=False)) as streams:
            streams[1].write(says)
            with contextlib.suppress(ConnectionResetError):
                assert DRAIN_PING in await rest(streams), "it was asked to go, and had the time to answer"
        await asyncio.wait_for(b.sidecar.registry.emptied(), SECONDS)


async def test_an_app_that_is_gone_before_its_first_byte_is_read_is_forgotten() -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        for _ in range(20):
            with socket.create_connection((a.outbound.host, a.outbound.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(20):
            assert await a.lines.outcome() == "RESET"
        assert len(a.sidecar.registry) == 1
        assert await echoed(streams) == b"ping"


@pytest.mark.parametrize("outlives", [True, False])
async def test_a_tunnel_is_judged_again_when_an_intermediate_ends_before_its_leaf(outlives: bool) -> None:
    clock = ManualClock()
    ends = timedelta(minutes=10 if outlives else 600)
    authority = make_authority("example.org", clock, svid_ttl=timedelta(minutes=5), intermediate_ttl=ends)
    svid = mint_raw(authority, Leaf(uris=(str(A),)), clock)
    theirs, ours = (
        X509Context(1, (one,), BundleSet([authority.bundle]))
        for one in (svid, mint_raw(authority, Leaf(uris=(str(B),)), clock))
    )
    async with (
        an_app() as app,
        side_b(app.address, source=ConstantSource(ours), tunnel=True, clock=clock) as b,
        side_a(b.inbound, theirs, tunnel=True) as a,
    ):
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        await b.lines.next()
        clock.advance(601)
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == (b"" if outlives else b"ping")
        assert await b.lines.outcome() == ("PEER_UNTRUSTED" if outlives else "OK")
