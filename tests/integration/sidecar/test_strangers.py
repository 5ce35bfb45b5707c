"""Unproven peers lock no other peer out: they have a separate limit, and the oldest give way to newer connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from meshtls.address import Address
from meshtls.policy.authorizer import authorize_id
from meshtls.sidecar.settings import Limits, Mode
from meshtls.svid.context import ConstantSource
from meshtls.tls.context import TlsOptions
from meshtls.tls.streams import dial, listen
from meshtls.wire.http2.frames import PREFACE, Kind, frame
from tests.integration.sidecar.mesh import (
    A,
    B,
    Node,
    Streams,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    patient,
    rest,
    side_a,
    side_b,
)
from tests.integration.sidecar.raw_peer import RawPeer
from tests.support.tls import SlowClient, engine_of
from tests.support.waiting import SECONDS, until

STRANGERS = 60
FEW = Limits(connections=4, unproven=8, handshake_timeout=30, detect_timeout=0.001)


@contextlib.contextmanager
def strangers(to: Address, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that say this and no more."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(STRANGERS):
            sock = stack.enter_context(socket.create_connection((to.host, to.port), SECONDS))
            with contextlib.suppress(ConnectionError):
                sock.sendall(says)
            sock.setblocking(False)
            socks.append(sock)
        yield socks


def alive(socks: list[socket.socket]) -> int:
    """How many have been neither reset nor closed."""

    def lives(sock: socket.socket) -> bool:
        try:
            while data := sock.recv(1 << 14):
                pass
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data)

    return sum(map(lives, socks))


def hello() -> bytes:
    return SlowClient().hello


def nothing() -> bytes:
    return b""


async def served_by(b: Node) -> None:
    """As many peers as may be at once, each served."""
    async with side_a(b.inbound) as a, contextlib.AsyncExitStack() as stack:
        for _ in range(FEW.connections):
            streams = await stack.enter_async_context(connected(a.outbound))
            assert await echoed(streams) == b"ping"


@pytest.mark.parametrize("says", [nothing, hello])
@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE])
async def test_peers_are_served_beside_very_many_strangers_of_which_the_oldest_give_way(
    mode: Mode, says: Callable[[], bytes]
) -> None:
    async with an_app() as app, side_b(app.address, limits=FEW, mode=mode) as b:
        with strangers(b.inbound, says()) as socks:
            await until(lambda: alive(socks) == FEW.unproven)
            assert alive(socks[: -FEW.unproven]) == 0, "the newest have stayed"
            await served_by(b)
            line = await b.lines.next()
            assert (line["outcome"], line["verdict"], line["detail"]) == (
                "CONNECTION_LIMIT",
                "failed",
                "gave way to a newer connection: unproven limit reached (limits.unproven=8)",
            )


async def test_silent_connections_to_a_plaintext_listener_give_way_and_those_that_speak_are_served() -> None:
    async with an_app() as app, side_b(app.address, limits=FEW, mode=Mode.DISABLE, allow=()) as b:
        with strangers(b.inbound) as socks:
            await until(lambda: alive(socks) == FEW.unproven)
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(FEW.connections):
                    streams = await stack.enter_async_context(connected(b.inbound))
                    assert await echoed(streams) == b"ping"


async def half_handshaken(streams: Streams) -> RawPeer:
    """A peer that has said its ClientHello and has the answer."""
    peer = RawPeer(engine_of(as_a(), server_side=False), streams)
    assert peer.engine.handshake() is None
    streams[1].write(peer.engine.outgoing())
    async with asyncio.timeout(SECONDS):
        peer.engine.feed(await streams[0].read(1 << 14))
    return peer


async def test_silent_connections_give_way_before_an_older_one_that_shakes_hands() -> None:
    limits = Limits(connections=4, unproven=3, handshake_timeout=30)
    async with an_app() as app, side_b(app.address, limits=limits) as b, contextlib.AsyncExitStack() as stack:
        peer = await half_handshaken(await stack.enter_async_context(connected(b.inbound)))
        silent = [await stack.enter_async_context(connected(b.inbound)) for _ in range(3)]
        with pytest.raises(ConnectionResetError):
            await rest(silent[0])
        assert len(b.sidecar.registry.unproven) == 3
        await peer.shake()
        peer.send(b"ping")
        assert await peer.receive() == b"ping"


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
async def test_plaintext_that_was_spoken_counts_against_the_limit_and_gives_way_to_nobody(mode: Mode) -> None:
    limits = patient(connections=1, unproven=2, detect_timeout=0.001)
    allow = () if mode is Mode.DISABLE else (A,)
    async with an_app() as app, side_b(app.address, limits=limits, mode=mode, allow=allow) as b:
        async with connected(b.inbound) as spoken:
            assert await echoed(spoken) == b"ping"
            with pytest.raises(ConnectionError):
                async with connected(b.inbound) as too_many:
                    await echoed(too_many)
            line = await b.lines.the("CONNECTION_LIMIT")
            assert line["detail"] == "connection limit reached (limits.connections=1)"
        await b.sidecar.registry.emptied()
        async with connected(b.inbound) as spoken:
            assert await echoed(spoken) == b"ping"
            assert (len(b.sidecar.registry), len(b.sidecar.registry.unproven)) == (1, 0)


async def test_the_limit_of_connections_counts_the_proven_alone_and_holds_for_them() -> None:
    limits = patient(connections=2, unproven=8)
    async with an_app() as app, side_b(app.address, limits=limits) as b, side_a(b.inbound) as a:
        with strangers(b.inbound) as socks:
            async with connected(a.outbound) as one, connected(a.outbound) as two, connected(a.outbound) as too_many:
                assert await echoed(one) == await echoed(two) == b"ping"
                with pytest.raises(ConnectionResetError):
                    await echoed(too_many)
                assert await echoed(one) == b"ping"
                line = await b.lines.the("CONNECTION_LIMIT")
                while "gave way" in line["detail"]:
                    line = await b.lines.the("CONNECTION_LIMIT")
                assert line["detail"] == "connection limit reached (limits.connections=2)"
            assert alive(socks) <= limits.unproven


async def test_a_session_without_an_authorized_stream_gives_way_and_one_with_it_stays() -> None:
    limits = patient(connections=8, unproven=3)
    async with an_app() as app, side_b(app.address, limits=limits, tunnel=True) as b, contextlib.AsyncExitStack() as st:
        a = await st.enter_async_context(side_a(b.inbound, tunnel=True))
        used = await st.enter_async_context(connected(a.outbound))
        assert await echoed(used) == b"ping"
        sessions = []
        for _ in range(5):
            streams = await st.enter_async_context(connected(b.inbound))
            session = RawPeer(engine_of(as_a(), server_side=False, options=TlsOptions(alpn=("h2",))), streams)
            await session.shake()
            session.send(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))
            assert await session.receive()
            sessions.append(session)
        for session in sessions[:2]:
            with contextlib.suppress(ConnectionResetError):
                await rest(session.streams)  # it ends
        assert await echoed(used) == b"ping"
        assert len(b.sidecar.registry.unproven) == 3


async def test_half_handshakes_give_way_before_an_older_session_without_a_stream() -> None:
    limits = Limits(connections=8, unproven=3, handshake_timeout=30)
    async with an_app() as app, side_b(app.address, limits=limits, tunnel=True) as b, contextlib.AsyncExitStack() as st:
        options = TlsOptions(alpn=("h2",))
        streams = await st.enter_async_context(connected(b.inbound))
        session = RawPeer(engine_of(as_a(), server_side=False, options=options), streams)
        await session.shake()
        session.send(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))
        assert await session.receive()
        halves = [await half_handshaken(await st.enter_async_context(connected(b.inbound))) for _ in range(2)]
        await st.enter_async_context(connected(b.inbound))
        with pytest.raises(ConnectionResetError):
            await rest(halves[0].streams)
        session.send(frame(Kind.PING, 0, 0, bytes(8)))
        assert await session.receive()


async def test_a_probe_is_answered_beside_very_many_silent_ones() -> None:
    async with an_app() as app, side_b(app.address) as b:
        assert b.sidecar.health is not None
        with strangers(b.sidecar.health.address), strangers(b.sidecar.health.address):
            for _ in range(3):
                async with connected(b.sidecar.health.address) as streams:
                    streams[1].write(b"GET /ready HTTP/1.1\r\nHost: b\r\n\r\n")
                    assert (await rest(streams)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("says", [nothing, hello])
async def test_a_listener_of_the_library_serves_peers_beside_very_many_strangers(says: Callable[[], bytes]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(4))
        await writer.drain()

    own = ConstantSource(as_b())
    async with await listen("127.0.0.1", 0, own, authorize_id(A), echo, timeout=30, unproven=8) as listener:
        with strangers(Address(*listener.address), says()) as socks:
            await until(lambda: alive(socks) == 8)
            for _ in range(3):
                reader, writer = await dial(*listener.address, ConstantSource(as_a()), authorize_id(B))
                writer.write(b"ping")
                assert await asyncio.wait_for(reader.read(4), SECONDS) == b"ping"
                writer.close()
