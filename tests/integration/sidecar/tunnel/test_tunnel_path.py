"""Two real sidecars with a tunnel between them: bytes, verdicts, ends, and one log line for each app connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from meshtls.address import Address
from meshtls.policy.authorizer import Decision, Target
from meshtls.sidecar import sockets
from meshtls.sidecar.settings import Limits
from meshtls.svid.context import X509Context
from meshtls.svid.verify import VerifiedPeer
from tests.integration.sidecar.mesh import (
    DEFAULTS,
    FOREIGN,
    OTHER,
    OURS,
    A,
    App,
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
from tests.support.authority import context_for
from tests.support.clock import ManualClock
from tests.support.loop_clock import LoopClock
from tests.support.waiting import SECONDS, SHORT_IDLE

NOBODY = Address("127.0.0.1", 1)  # nothing listens there


@dataclass
class Rotating:
    """A source whose context a test exchanges."""

    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context


@dataclass(frozen=True)
class Pair:
    a: Node
    b: Node
    app: App

    async def lines(self, outcome: str) -> tuple[dict[str, object], dict[str, object]]:
        return await self.a.lines.the(outcome), await self.b.lines.the(outcome)


@contextlib.asynccontextmanager
async def a_pair(greeting: bytes = b"", *, limits: Limits = DEFAULTS) -> AsyncIterator[Pair]:
    async with (
        an_app(greeting) as app,
        side_b(app.address, tunnel=True, limits=limits) as b,
        side_a(b.inbound, tunnel=True, limits=limits) as a,
    ):
        yield Pair(a, b, app)


async def used_once(pair: Pair) -> None:
    """Make the tunnel, and read the lines of the one connection that it took."""
    async with connected(pair.a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        streams[1].write_eof()
        assert await rest(streams) == b""
    await pair.lines("OK")


# -- bytes --


async def test_bytes_in_flight_when_a_drained_tunnel_ends_still_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a peer whose socket holds little, as far ones do: most of a stream's end is in our kernel's queue then."""
    prepare = sockets._prepare

    def small(sock: socket.socket) -> None:
        prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    monkeypatch.setattr(sockets, "_prepare", small)
    size = 3 << 20

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(bytes(size))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    app = Address(*server.sockets[0].getsockname())
    async with server, side_b(app, tunnel=True) as b, side_a(b.inbound, tunnel=True) as a:
        async with connected(a.outbound) as (reader, writer):
            writer.write_eof()
            first = await reader.readexactly(1)
            draining = asyncio.create_task(b.sidecar.drain(20))
            assert len(first + await rest((reader, writer))) == size
        await draining
        assert [await a.lines.outcome(), await b.lines.outcome()] == ["OK", "OK"]


async def test_many_connections_share_one_tunnel_and_each_has_its_log_line() -> None:
    async with a_pair() as pair:
        for place in range(3):
            async with connected(pair.a.outbound) as streams:
                assert await echoed(streams) == b"ping"
                streams[1].write_eof()
                assert await rest(streams) == b""
            for line in await pair.lines("OK"):
                assert line["tunnel"] is True
                assert (line["bytes_in"], line["bytes_out"]) == (4, 4)
                assert (line["source_id"], line["destination_id"]) == (str(A), str(B))
                assert line["tls_version"] == "TLSv1.3"
                made_the_tunnel = place == 0 and line["sidecar"] == "a"
                assert (line["handshake_ms"] is not None) is made_the_tunnel
        assert len(pair.b.sidecar.registry) == 1, "the tunnel itself"
        assert pair.app.connections == 3


async def test_a_megabyte_each_way_over_each_of_many_streams_at_once() -> None:
    async def one(pair: Pair) -> None:
        data = os.urandom(1_000_000)
        async with connected(pair.a.outbound) as streams:
            sending = asyncio.create_task(_send_all(streams, data))
            assert await rest(streams) == data
            await sending

    async with a_pair() as pair, asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(one(pair))


async def test_more_streams_than_one_tunnel_takes_make_another() -> None:
    async with a_pair() as pair, contextlib.AsyncExitStack() as stack:
        all_streams = [await stack.enter_async_context(connected(pair.a.outbound)) for _ in range(130)]
        for streams in all_streams:
            assert await echoed(streams) == b"ping"
        assert len(pair.b.sidecar.registry) == 130 + 2


async def test_an_app_that_speaks_first_is_heard() -> None:
    async with a_pair(b"welcome") as pair, connected(pair.a.outbound) as streams:
        assert await echoed(streams, b"") == b""
        assert await asyncio.wait_for(streams[0].readexactly(7), SECONDS) == b"welcome"


async def test_the_app_may_go_on_after_its_client_has_ended_and_the_client_after_the_app() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first of all; ")
        if await reader.read(1) == b"x":  # the app ends its side first
            writer.write_eof()
            heard.set_result(await reader.read())
        else:  # the client did
            writer.write(b"after the end")
        writer.close()

    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(late, "127.0.0.1", 0)
    app = Address(*server.sockets[0].getsockname()[:2])
    async with server, side_b(app, tunnel=True) as b, side_a(b.inbound, tunnel=True) as a:
        async with connected(a.outbound) as streams:
            streams[1].write_eof()
            assert await rest(streams) == b"first of all; after the end"
        assert await a.lines.outcome() == await b.lines.outcome() == "OK"
        async with connected(a.outbound) as streams:
            streams[1].write(b"x")
            assert await rest(streams) == b"first of all; "
            streams[1].write(b"more of the client")
            streams[1].write_eof()
            assert await asyncio.wait_for(heard, SECONDS) == b"more of the client"
        assert await a.lines.outcome() == await b.lines.outcome() == "OK"


async def test_streams_whose_app_does_not_read_stall_no_other_and_keep_no_more_than_their_window() -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"s":
            await leave.wait()
        else:
            writer.write(b"p" + await reader.readexactly(3))
        writer.close()

    leave, window = asyncio.Event(), 1 << 18
    async with (
        small_buffers(app) as address,
        side_b(address, tunnel=True, limits=patient(tunnel_window=window)) as b,
        side_a(b.inbound, tunnel=True) as a,
        asyncio.TaskGroup() as group,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(12):
            streams = await stack.enter_async_context(connected(a.outbound))
            group.create_task(_flood(streams, b"s" + bytes(8_000_000)))
        tunnels = b.sidecar.listeners.inbound[0].handler.tunnels
        await _until(lambda: len(tunnels.live) == 1)
        (tunnel,) = tunnels.live
        await _until(lambda: sum(stream.kept > window / 2 for stream in tunnel._streams.values()) == 12)
        for _ in range(20):
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
        assert max(stream.kept for stream in tunnel._streams.values()) <= window
        leave.set()


async def test_an_abortive_close_of_the_client_reaches_the_app_as_one() -> None:
    async with a_pair() as pair:
        await used_once(pair)
        async with connected(pair.a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            _reset(streams)
        line_a, line_b = await pair.lines("RESET")
        assert str(line_a["detail"]).startswith("the app broke off")
        assert line_b["detail"] == "the peer reset the stream: CONNECT_ERROR"
        assert [await pair.app.ended.get() for _ in range(2)] == ["EOF", "reset"]
        await used_once(pair)


async def test_an_app_that_resets_reaches_the_client_as_a_reset() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        _reset((reader, writer))

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    app = Address(*server.sockets[0].getsockname()[:2])
    async with server, side_b(app, tunnel=True) as b, side_a(b.inbound, tunnel=True) as a:
        async with connected(a.outbound) as streams:
            streams[1].write(b"x")
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        assert (await a.lines.next())["detail"] == "the peer reset the stream: CONNECT_ERROR"
        assert (await b.lines.next())["outcome"] == "RESET"


# -- verdicts --


async def test_an_app_that_is_not_there_is_503_and_connect_failed_on_both_sides() -> None:
    async with side_b(NOBODY, tunnel=True) as b, side_a(b.inbound, tunnel=True) as a:
        for _ in range(2):
            async with connected(a.outbound) as streams:
                with contextlib.suppress(ConnectionResetError):
                    assert await rest(streams) == b""
            line = await a.lines.next()
            assert (line["outcome"], line["detail"]) == (
                "CONNECT_FAILED",
                "the peer can't reach its app: it answered CONNECT with 503",
            )
            line = await b.lines.next()
            assert line["outcome"] == "CONNECT_FAILED"
            assert str(line["detail"]).startswith("127.0.0.1:1 can't be reached")


async def test_a_host_name_is_resolved_and_dialled() -> None:
    async with (
        an_app() as app,
        side_b(Address("localhost", app.address.port), tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams, b"x" * 100_000) == b"x" * 100_000


async def test_a_stranger_gets_no_tunnel_and_both_sides_say_why() -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True) as b,
        side_a(b.inbound, context_for(OURS, OTHER), tunnel=True) as a,
    ):
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == b""
        assert await a.lines.outcome() == "HANDSHAKE_FAILED"
        line = await b.lines.next()
        assert (line["outcome"], line["tunnel"]) == ("POLICY_DENIED", False)
        assert app.connections == 0


async def test_a_foreign_peer_gets_no_app_bytes() -> None:
    async with (
        an_app() as app,
        side_b(app.address, source=Rotating(context_for(FOREIGN, B)), tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
    ):
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == b""
        assert await a.lines.outcome() == "PEER_UNTRUSTED"
        assert app.connections == 0


@pytest.mark.parametrize(
    ("destination", "outcome"),
    [("app", "OK"), ("dialled", "OK"), ("hbone", "OK"), ("named", "OK"), ("elsewhere", "POLICY_DENIED")],
)
async def test_a_connect_for_any_other_authority_is_refused(destination: str, outcome: str) -> None:
    async with (
        an_app() as other,
        an_app() as app,
        side_b(app.address, tunnel=True, destinations=(Address("app.example", 80),)) as b,
    ):
        asked = {
            "app": app.address,
            "dialled": None,
            "hbone": Address("127.0.0.1", app.address.port),
            "named": Address("APP.example", 80),
            "elsewhere": other.address,
        }[destination]
        async with side_a(b.inbound, tunnel=True, destination=asked) as a:
            async with connected(a.outbound) as streams:
                with contextlib.suppress(ConnectionResetError):
                    assert await echoed(streams) == (b"ping" if outcome == "OK" else b"")
                    streams[1].write_eof()
            line_a, line_b = await a.lines.next(), await b.lines.next()
        assert line_a["outcome"] == line_b["outcome"] == outcome
        assert (app.connections, other.connections) == (int(outcome == "OK"), 0)
        if outcome != "OK":
            assert line_a["detail"] == "the peer does not let us in: it answered CONNECT with 404"
            assert f"got {other.address}; if that is this app, add it" in str(line_b["detail"])


async def test_a_policy_change_ends_the_streams_it_forbids_and_their_tunnel() -> None:
    async with a_pair() as pair:
        await used_once(pair)
        async with connected(pair.a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            assert pair.b.sidecar.set_allow(0, [OTHER]) == 2, "the stream and the tunnel"
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        assert (await pair.b.lines.next())["outcome"] == "POLICY_DENIED"
        assert (await pair.b.lines.next())["outcome"] == "POLICY_DENIED"
        assert (await pair.a.lines.next())["outcome"] == "RESET"
        async with connected(pair.a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == b""
        assert (await pair.b.lines.next())["outcome"] == "POLICY_DENIED"
        pair.b.sidecar.set_allow(0, [A])
        assert (await pair.a.lines.next())["outcome"] == "HANDSHAKE_FAILED"
        await used_once(pair)


async def test_each_stream_is_authorized_anew() -> None:
    async with a_pair() as pair:
        await used_once(pair)
        allowed = iter([True, False, True])
        gate = pair.b.sidecar.listeners.inbound[0].gate
        decide = gate._authorizer
        # Not by set_authorizer, which asks about what is there: here only the streams to come are.
        gate.replace(lambda peer, target: decide(peer, target) if next(allowed) else _nobody(peer, target))
        await used_once(pair)
        async with connected(pair.a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == b""
        line_a, line_b = await pair.lines("POLICY_DENIED")
        assert line_a["detail"] == "the peer does not let us in: it answered CONNECT with 403"
        assert line_b["tunnel"] is True
        await used_once(pair)


async def test_a_stream_over_the_limit_is_refused_and_counted_as_a_connection() -> None:
    limits = patient(connections=2)  # the tunnel itself and one stream
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True, limits=limits) as b,
        side_a(b.inbound, tunnel=True) as a,
        connected(a.outbound) as first,
    ):
        assert await echoed(first) == b"ping"
        async with connected(a.outbound) as second:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(second) == b""
        assert (await b.lines.next())["outcome"] == "CONNECTION_LIMIT"
        assert (await a.lines.next())["outcome"] == "CONNECT_FAILED"
        assert await echoed(first) == b"ping"


# -- generations, times, draining --


async def test_a_new_generation_makes_a_new_tunnel_and_the_old_one_goes_with_its_last_stream() -> None:
    source = Rotating(as_a())
    async with an_app() as app, side_b(app.address, tunnel=True) as b, side_a(b.inbound, source, tunnel=True) as a:
        async with connected(a.outbound) as old:
            assert await echoed(old) == b"ping"
            source.context = context_for(OURS, A, generation=2)
            async with connected(a.outbound) as new:
                assert await echoed(new) == b"ping"
                assert len(b.sidecar.registry) == 4
                assert await echoed(old) == b"ping"
                old[1].write_eof()
                assert await rest(old) == b""
                assert (await a.lines.next())["generation"] == 1
                await _until(lambda: len(b.sidecar.registry) == 2)
                assert await echoed(new) == b"ping"
        assert (await a.lines.the("OK"))["generation"] == 2


async def test_a_server_that_rotates_verifies_anew_and_drains_the_tunnel() -> None:
    source = Rotating(as_b())
    async with (
        an_app() as app,
        side_b(app.address, source=source, tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
    ):
        pair = Pair(a, b, app)
        await used_once(pair)
        source.context = context_for(OURS, B, generation=2)
        await used_once(pair)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            streams[1].write_eof()
        line_a, _ = await pair.lines("OK")
        assert line_a["handshake_ms"] is not None, "the old tunnel was left"


async def test_a_server_that_no_longer_trusts_the_peers_root_refuses_the_stream() -> None:
    source = Rotating(as_b())
    async with (
        an_app() as app,
        side_b(app.address, source=source, tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
    ):
        pair = Pair(a, b, app)
        await used_once(pair)
        source.context = context_for(FOREIGN, B, generation=2)
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == b""
        line_a, line_b = await pair.a.lines.next(), await pair.b.lines.next()
        assert line_a["detail"] == "the peer does not let us in: it answered CONNECT with 403"
        assert line_b["outcome"] == "PEER_UNTRUSTED"
        assert app.connections == 1


async def test_a_tunnel_of_a_peer_whose_certificate_has_expired_takes_no_more_streams() -> None:
    clock = ManualClock()
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True, clock=clock) as b,
        side_a(b.inbound, context_for(OURS, A, ttl=timedelta(minutes=10)), tunnel=True) as a,
    ):
        pair = Pair(a, b, app)
        await used_once(pair)
        clock.advance(601)
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionResetError):
                assert await echoed(streams) == b""
        line = await b.lines.next()
        assert line["outcome"] == "PEER_CERT_NOT_CURRENT"
        assert "expired at" in str(line["detail"])


async def test_a_tunnel_without_streams_is_released() -> None:
    limits = patient(idle_timeout=SHORT_IDLE)
    async with a_pair(limits=limits) as pair:
        await used_once(pair)
        await _until(lambda: len(pair.b.sidecar.registry) == 0)
        await used_once(pair)


async def test_a_stream_where_no_byte_moves_ends_as_idle_and_the_tunnel_does_not() -> None:
    clock = LoopClock()
    async with a_pair(limits=patient(idle_timeout=100)) as pair, connected(pair.a.outbound) as busy:
        assert await echoed(busy) == b"ping"
        async with connected(pair.a.outbound) as idle:
            assert await echoed(idle) == b"ping"
            ended = asyncio.create_task(idle[0].read())
            while not ended.done():
                clock.put_forward(30)
                assert await echoed(busy) == b"ping"
            with pytest.raises(ConnectionResetError):
                await ended
        lines = await pair.a.lines.next(), await pair.b.lines.next()
        assert "IDLE_TIMEOUT" in [line["outcome"] for line in lines]
        assert await echoed(busy) == b"ping"


async def test_a_drained_server_lets_streams_finish_and_the_tunnel_with_them() -> None:
    async with a_pair() as pair:
        async with connected(pair.a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            draining = asyncio.create_task(pair.b.sidecar.drain(2 * SECONDS))
            for _ in range(5):
                assert await echoed(streams) == b"ping"
            streams[1].write_eof()
            assert await rest(streams) == b""
            await asyncio.wait_for(draining, SECONDS)
        assert await pair.a.lines.outcome() == await pair.b.lines.outcome() == "OK"


async def test_an_idle_tunnel_does_not_hold_up_a_drain() -> None:
    async with a_pair() as pair:
        await used_once(pair)
        await asyncio.wait_for(pair.b.sidecar.drain(2 * SECONDS), SECONDS)


async def test_connections_that_outlive_the_drain_end_as_drained() -> None:
    async with a_pair() as pair, connected(pair.a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        await pair.b.sidecar.drain(0)
        with pytest.raises(ConnectionResetError):
            await rest(streams)
        assert await pair.b.lines.outcome() == "DRAINED"
        assert await pair.a.lines.outcome() == "RESET"


async def test_a_stopped_caller_breaks_off_its_streams() -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b:
        async with side_a(b.inbound, tunnel=True) as a, connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            await a.sidecar.drain(0)
            assert await a.lines.outcome() == "DRAINED"
        assert await b.lines.outcome() == "RESET"
        await _until(lambda: len(b.sidecar.registry) == 0)


# -- sides that do not both speak it --


@pytest.mark.parametrize(("caller", "called"), [(True, False), (False, True)])
async def test_each_connection_is_its_own_without_tunnels_on_both_sides(caller: bool, called: bool) -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=called) as b,
        side_a(b.inbound, tunnel=caller) as a,
    ):
        for _ in range(3):
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
                streams[1].write_eof()
                assert await rest(streams) == b""
            line = await a.lines.next()
            assert (line["outcome"], line["tunnel"]) == ("OK", False)
            assert line["handshake_ms"] is not None
        assert app.connections == 3


async def test_every_caller_waiting_for_a_dial_gets_its_error() -> None:
    async with side_a(NOBODY, tunnel=True) as a:
        await asyncio.gather(*(refused(a.outbound) for _ in range(5)))
        lines = [await a.lines.next() for _ in range(5)]
        assert [line["outcome"] for line in lines] == ["CONNECT_FAILED"] * 5


async def test_a_tunnel_that_is_cut_takes_its_streams_with_it_and_the_next_makes_another() -> None:
    async with a_pair() as pair:
        async with connected(pair.a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            (tunnel,) = pair.b.sidecar.listeners.inbound[0].handler.tunnels.live
            tunnel._end.sock.shutdown(socket.SHUT_RDWR)
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        await pair.lines("RESET")
        await used_once(pair)


async def refused(address: Address) -> None:
    """By a reset, which may come before our own loop has noticed that it was connected."""
    with pytest.raises(ConnectionResetError):
        async with connected(address) as streams:
            await rest(streams)


def _nobody(peer: VerifiedPeer, target: Target) -> Decision:
    return Decision(False, "nobody is allowed")


def _reset(streams: Streams) -> None:
    sock = streams[1].get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams[1].transport.abort()


async def _send_all(streams: Streams, data: bytes) -> None:
    streams[1].write(data)
    await streams[1].drain()
    streams[1].write_eof()


async def _flood(streams: Streams, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        await _send_all(streams, data)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110  # what is asked about has no event of its own
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def small_buffers(
    app: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Address]:
    """An app whose kernel takes little on its behalf."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    async with await asyncio.start_server(app, sock=sock, limit=1024):
        yield Address(*sock.getsockname()[:2])
