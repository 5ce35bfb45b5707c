"""What a peer has sent whole is delivered whatever it does next; what it has refused unseen is sent again elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from meshtls.address import Address
from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, frame
from meshtls.wire.http2.headers import NO_TABLE, connect_block
from meshtls.wire.http2.settings import Setting
from tests.integration.sidecar.mesh import Node, an_app, connected, echoed, patient, rest, side_a, side_b
from tests.integration.sidecar.tunnel.test_tunnel_bounds import a_peer
from tests.integration.sidecar.tunnel.test_tunnel_path import small_buffers
from tests.integration.sidecar.tunnel.test_tunnel_peers import context
from tests.support.waiting import SECONDS, SHORT_IDLE, until

SIZE = 8 << 20
END_STREAM, END_HEADERS = 1, 4
OK = b"\x88"


@dataclass
class Peer:
    """An HTTP/2 peer of raw frames, read one by one. ``windows``: the bytes that were added on each stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    windows: Counter[int] = field(default_factory=Counter)

    def says(self, kind: Kind, flags: int, stream: int, payload: bytes = b"") -> None:
        self.writer.write(frame(kind, flags, stream, payload))

    async def next(self) -> tuple[Kind, int, int, bytes]:
        """The next frame other than SETTINGS, WINDOW_UPDATE and a PING to answer. Raises IncompleteReadError at the
        end.
        """
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, stream = Kind(head[3]), int.from_bytes(head[5:9], "big")
            if kind is Kind.SETTINGS:
                if not head[4] & 1:
                    self.says(Kind.SETTINGS, 1, 0)
            elif kind is Kind.WINDOW_UPDATE:
                self.windows[stream] += int.from_bytes(payload, "big")
            elif kind is Kind.PING and not head[4] & 1:
                self.says(Kind.PING, 1, 0, payload)
            else:
                if kind is Kind.DATA and payload:
                    for number in (0, stream):
                        self.says(Kind.WINDOW_UPDATE, 0, number, struct.pack(">L", len(payload)))
                return kind, head[4], stream, payload

    async def settled(self) -> None:
        """Wait until the other side has taken all that was sent."""
        self.says(Kind.PING, 0, 0, bytes(8))
        while (await self.next())[0] is not Kind.PING:
            pass

    async def sends(self, stream: int, payload: bytes, *, ended: bool) -> None:
        """DATA within the default windows of ours, which take all of it at once."""
        for at in range(0, len(payload), 1 << 14):
            last = ended and at + (1 << 14) >= len(payload)
            self.says(Kind.DATA, END_STREAM if last else 0, stream, payload[at : at + (1 << 14)])
            await self.writer.drain()


@contextlib.asynccontextmanager
async def a_server(serve: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Address]:
    """Serves each connection after the preface and its own SETTINGS; an end within a frame is an end."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readexactly(len(PREFACE))
            peer = Peer(reader, writer)
            peer.says(Kind.SETTINGS, 0, 0)
            await serve(peer)
        writer.close()

    async with a_peer(run) as address:
        yield address


@contextlib.asynccontextmanager
async def a_client(to: Address) -> AsyncIterator[Peer]:
    async with connected(to, context(server_side=False)) as streams:
        peer = Peer(*streams)
        peer.writer.write(PREFACE)
        peer.says(Kind.SETTINGS, 0, 0)
        yield peer


def code(of: ErrorCode) -> bytes:
    return struct.pack(">L", of)


def connect(to: Address) -> bytes:
    return connect_block(str(to).encode())


# -- what came is delivered --


async def resets(peer: Peer, stream: int, how: ErrorCode) -> None:
    peer.says(Kind.RST_STREAM, 0, stream, code(how))
    await peer.writer.drain()


LEAVING = {
    "nothing more": lambda peer: None,
    "RST_STREAM(NO_ERROR)": lambda peer: peer.says(Kind.RST_STREAM, 0, 1, code(ErrorCode.NO_ERROR)),
    "GOAWAY and the end of TLS": lambda peer: (
        peer.says(Kind.GOAWAY, 0, 0, struct.pack(">LL", 1, 0)),
        peer.writer.close(),
    ),
    "a reset of TCP": lambda peer: reset_soon(peer),
    "a broken rule": lambda peer: peer.says(Kind.PING, 0, 1, bytes(8)),
}


def reset_soon(peer: Peer) -> None:
    peer.writer.transport.abort()


@pytest.mark.parametrize("leaves", LEAVING.values(), ids=LEAVING.keys())
async def test_a_complete_answer_is_delivered_whole_to_an_app_that_reads_late(leaves: Callable[[Peer], object]) -> None:
    """RFC 9113, section 8.1. Envoy resets with NO_ERROR whenever the app behind it has ended first."""

    async def serve(peer: Peer) -> None:
        await peer.next()
        peer.says(Kind.HEADERS, END_HEADERS, 1, OK)
        await peer.sends(1, answer, ended=True)
        await peer.settled()  # so that TCP's reset takes nothing back
        leaves(peer)
        sent.set()
        await peer.reader.read()

    answer, sent = os.urandom(SIZE), asyncio.Event()
    async with a_server(serve) as to, side_a(to, tunnel=True) as a:
        with socket.create_connection((a.outbound.host, a.outbound.port)) as sock:
            sock.setblocking(False)
            await asyncio.wait_for(sent.wait(), SECONDS)
            streams = await asyncio.open_connection(sock=sock.dup())
            assert await rest(streams) == answer
            streams[1].close()
        line = await a.lines.next()
        assert (line["outcome"], line["bytes_out"]) == ("OK", SIZE)


@pytest.mark.parametrize("how", [ErrorCode.NO_ERROR, ErrorCode.CANCEL])
async def test_a_response_reset_before_its_end_is_not_complete(how: ErrorCode) -> None:
    async def serve(peer: Peer) -> None:
        await peer.next()
        peer.says(Kind.HEADERS, END_HEADERS, 1, OK)
        await peer.sends(1, bytes(1 << 16), ended=False)
        await resets(peer, 1, how)
        await peer.reader.read()

    async with a_server(serve) as to, side_a(to, tunnel=True) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        line = await a.lines.next()
        assert (line["outcome"], line["detail"]) == ("RESET", f"the peer reset the stream: {how.name}")


async def test_an_app_that_still_sends_gets_the_whole_answer_of_a_peer_that_takes_no_more() -> None:
    async def serve(peer: Peer) -> None:
        await peer.next()
        peer.says(Kind.HEADERS, END_HEADERS, 1, OK)
        await peer.sends(1, answer, ended=True)
        await resets(peer, 1, ErrorCode.NO_ERROR)
        await peer.reader.read()

    answer = os.urandom(SIZE)
    async with a_server(serve) as to, side_a(to, tunnel=True) as a:
        async with connected(a.outbound) as (reader, writer):
            writer.write(bytes(4 * SIZE))
            async with asyncio.timeout(SECONDS):
                await writer.drain()
            writer.write_eof()
            assert await rest((reader, writer)) == answer
        assert await a.lines.outcome() == "OK"


async def test_an_app_that_never_takes_a_complete_answer_is_given_up_at_the_idle_timeout() -> None:
    async def serve(peer: Peer) -> None:
        await peer.next()
        peer.says(Kind.HEADERS, END_HEADERS, 1, OK)
        await peer.sends(1, bytes(2 * SIZE), ended=True)
        await peer.settled()
        peer.writer.transport.abort()

    async with a_server(serve) as to, side_a(to, tunnel=True, limits=patient(idle_timeout=SHORT_IDLE)) as a:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            sock.connect((a.outbound.host, a.outbound.port))
            line = await a.lines.next()
            assert line["outcome"] == "IDLE_TIMEOUT", line["detail"]
        await asyncio.wait_for(a.sidecar.registry.emptied(), SECONDS)


async def test_a_whole_request_reaches_the_app_though_its_client_leaves_at_once() -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b:
        async with a_client(b.inbound) as peer:
            peer.says(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + connect(app.address))
            await peer.sends(1, bytes(SIZE // 8), ended=True)
            await resets(peer, 1, ErrorCode.NO_ERROR)
            assert await b.lines.outcome() == "OK"
        assert app.received == SIZE // 8


async def test_an_end_that_comes_with_the_last_bytes_is_noticed() -> None:
    """In one receive: nothing comes after it that would wake anybody."""
    async with an_app() as app, side_b(app.address, tunnel=True) as b:
        tls = context(server_side=False)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = tls.wrap_bio(incoming, outgoing, server_hostname=None)
        reader, writer = await asyncio.open_connection(b.inbound.host, b.inbound.port)
        while True:
            try:
                engine.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(1 << 16))
        engine.write(
            PREFACE
            + frame(Kind.SETTINGS, 0, 0, b"")
            + frame(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + connect(app.address))
        )
        with contextlib.suppress(ssl.SSLWantReadError):
            engine.unwrap()
        writer.write(outgoing.read())
        line = await b.lines.next()
        assert line["detail"] == "the tunnel's peer ended it in the middle of streams"
        writer.close()


# -- memory --


async def test_memory_is_bounded_over_all_tunnels_and_the_stream_that_keeps_the_most_pays() -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if await reader.readexactly(1) == b"s":
                await leave.wait()
            else:
                writer.write(b"p" + await reader.readexactly(3))
        writer.close()

    window = 1 << 20
    leave, limits = asyncio.Event(), patient(tunnel_window=window, tunnel_memory=4 * window)
    async with (
        small_buffers(app) as address,
        side_b(address, tunnel=True, limits=limits) as b,
        side_a(b.inbound, tunnel=True) as a,
        contextlib.AsyncExitStack() as stack,
    ):
        memory = b.sidecar.runtime.memory
        floods = [await stack.enter_async_context(a_client(b.inbound)) for _ in range(8)]
        stack.push_async_callback(_cancelled, [asyncio.create_task(_flood(one, address, window)) for one in floods])
        line = await b.lines.next()
        assert line["outcome"] == "RESET"
        assert str(line["detail"]).startswith(
            "receive memory is used up (limits.tunnel_memory=4194304): the app had left"
        )
        assert window / 2 < memory.kept <= memory.size
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping", "others go on"
        leave.set()
        await until(lambda: memory.kept == 0)


async def _flood(peer: Peer, app: Address, window: int) -> None:
    """Send as long as there is a window, however much the kernel takes for an app that reads nothing."""

    async def watch() -> None:
        while True:
            await peer.next()

    peer.says(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + connect(app))
    reading, sent, piece = asyncio.create_task(watch()), 0, 1 << 14
    try:
        while not reading.done():
            if sent + piece <= window + peer.windows[1]:
                peer.says(Kind.DATA, 0, 1, b"s" * piece)
                sent += piece
                await peer.writer.drain()
            await asyncio.sleep(0)
    finally:
        await _cancelled([reading])


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# -- what is refused unseen is tried again --


@dataclass
class Refusing:
    """Refuses the first streams of its first connections, and echoes on all others. ``how`` refuses one stream."""

    how: Callable[[Peer, int], None]
    tunnels: int
    asked: list[int] = field(default_factory=list)

    async def serve(self, peer: Peer) -> None:
        place = len(self.asked)
        self.asked.append(0)
        streams: set[int] = set()
        while True:
            kind, flags, stream, payload = await peer.next()
            if kind is Kind.HEADERS:
                self.asked[place] += 1
                if place < self.tunnels:
                    self.how(peer, stream)
                else:
                    streams.add(stream)
                    peer.says(Kind.HEADERS, END_HEADERS, stream, OK)
            elif kind is Kind.DATA and stream in streams:
                peer.says(Kind.DATA, flags, stream, payload)


def by_reset(peer: Peer, stream: int) -> None:
    peer.says(Kind.RST_STREAM, 0, stream, code(ErrorCode.REFUSED_STREAM))


def by_goaway(peer: Peer, stream: int) -> None:
    peer.says(Kind.GOAWAY, 0, 0, struct.pack(">LL", 0, 0))
    peer.writer.close()


@pytest.mark.parametrize("how", [by_reset, by_goaway])
@pytest.mark.parametrize("tunnels", [1, 3])
async def test_a_refused_stream_is_carried_by_another_tunnel_with_every_byte(
    how: Callable[[Peer, int], None], tunnels: int
) -> None:
    refusing, message = Refusing(how, tunnels), os.urandom(300_000)
    async with a_server(refusing.serve) as to, side_a(to, tunnel=True) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams, message) == message
            streams[1].write_eof()
            assert await rest(streams) == b""
        line = await a.lines.next()
        assert (line["outcome"], line["bytes_in"], line["bytes_out"]) == ("OK", len(message), len(message))
    assert refusing.asked == [1] * (tunnels + 1)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (by_reset, "the peer refused the stream (REFUSED_STREAM)"),
        (by_goaway, "the peer ended the tunnel before it looked at the stream (GOAWAY)"),
    ],
)
async def test_a_peer_that_refuses_every_stream_is_tried_four_times(how: Callable[[Peer, int], None], why: str) -> None:
    refusing = Refusing(how, 1000)
    async with a_server(refusing.serve) as to, side_a(to, tunnel=True) as a:
        for place in range(1, 3):
            async with connected(a.outbound) as streams:
                streams[1].write(b"ping")
                with pytest.raises(ConnectionResetError):
                    await rest(streams)
            line = await a.lines.next()
            assert (line["outcome"], line["detail"]) == (
                "STREAM_REFUSED",
                f"{why}, the last of 4 tunnels that were tried",
            )
            assert sum(refusing.asked) == 4 * place


async def test_a_stream_on_an_existing_tunnel_is_retried_too() -> None:
    """Without a task: the connection was carried at once, and gets one when it is refused."""

    async def serve(peer: Peer) -> None:
        tunnels.append(peer)
        while True:
            kind, flags, stream, payload = await peer.next()
            if kind is Kind.HEADERS and stream == 3 and len(tunnels) == 1:
                by_reset(peer, stream)
            elif kind is Kind.HEADERS:
                peer.says(Kind.HEADERS, END_HEADERS, stream, OK)
            elif kind is Kind.DATA and (stream != 3 or len(tunnels) > 1):
                peer.says(Kind.DATA, flags, stream, payload)

    tunnels: list[Peer] = []
    async with a_server(serve) as to, side_a(to, tunnel=True) as a, connected(a.outbound) as first:
        assert await echoed(first) == b"ping"
        async with connected(a.outbound) as second:
            assert await echoed(second, bytes(100_000)) == bytes(100_000)
            assert await echoed(first) == b"ping"
        lines = [await a.lines.next()]
    lines.append(await a.lines.next())
    assert [(line["outcome"], line["tunnel"]) for line in lines] == [("OK", True), ("OK", True)]
    assert repr(a.sidecar.registry).startswith("<Registry [0 of ")
    assert len(tunnels) == 2


@pytest.mark.parametrize("answered", [False, True])
async def test_a_stream_that_was_answered_is_not_tried_again(answered: bool) -> None:
    async def serve(peer: Peer) -> None:
        tunnels.append(peer)
        await peer.next()
        if answered:
            peer.says(Kind.HEADERS, END_HEADERS, 1, OK)
        by_reset(peer, 1)
        await peer.reader.read()

    tunnels: list[Peer] = []
    async with a_server(serve) as to, side_a(to, tunnel=True) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        assert await a.lines.outcome() == ("RESET" if answered else "STREAM_REFUSED")
    assert len(tunnels) == (1 if answered else 4)


async def test_a_peer_that_allows_few_streams_and_says_so_late_gets_them_on_as_many_tunnels() -> None:
    async def serve(peer: Peer) -> None:
        most.append(0)
        place, live = len(most) - 1, set[int]()
        while True:
            kind, flags, stream, payload = await peer.next()
            if kind is Kind.HEADERS and len(live) == 10:
                peer.says(Kind.SETTINGS, 0, 0, struct.pack(">HL", Setting.MAX_CONCURRENT_STREAMS, 10))
                by_reset(peer, stream)
            elif kind is Kind.HEADERS:
                live.add(stream)
                most[place] = max(most[place], len(live))
                peer.says(Kind.HEADERS, END_HEADERS, stream, OK)
            elif kind is Kind.DATA and stream in live:
                peer.says(Kind.DATA, flags, stream, payload)
            elif kind is Kind.RST_STREAM:
                live.discard(stream)

    most: list[int] = []
    async with a_server(serve) as to, side_a(to, tunnel=True) as a, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(a.outbound)) for _ in range(80)]
        assert await asyncio.gather(*(echoed(one) for one in clients)) == [b"ping"] * 80
    assert max(most) == 10


# -- what is refused here has its line --


async def lines_of(node: Node, count: int) -> list[dict[str, object]]:
    return [await node.lines.next() for _ in range(count)]


@pytest.mark.parametrize(("bound", "refused"), [(100, 200), (300, 0)])
async def test_each_stream_above_the_bound_is_refused_with_a_line(bound: int, refused: int) -> None:
    async with an_app() as app, side_b(app.address, tunnel=True, limits=patient(tunnel_streams=bound)) as b:
        async with a_client(b.inbound) as peer:
            for place in range(300):
                block = connect(app.address) if place else NO_TABLE + connect(app.address)
                peer.says(Kind.HEADERS, END_HEADERS, 2 * place + 1, block)
            kinds = [(await peer.next())[0] for _ in range(300)]
            assert (kinds.count(Kind.HEADERS), kinds.count(Kind.RST_STREAM)) == (300 - refused, refused)
            told = {(line["outcome"], line["detail"]) for line in await lines_of(b, refused)}
            full = f"stream limit reached (limits.tunnel_streams={bound})"
            assert told == ({("STREAM_REFUSED", f"REFUSED_STREAM: {full}")} if refused else set())
        assert len(await lines_of(b, 300 - refused)) == 300 - refused


async def test_a_stream_after_the_last_goaway_and_a_malformed_one_are_logged() -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b, a_client(b.inbound) as peer:
        block = connect(app.address)
        peer.says(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + block)
        peer.says(Kind.HEADERS, END_HEADERS, 3, block + b"\x00\x04:who\x01a")
        peer.says(Kind.PING, 1, 0, b"draining")
        peer.says(Kind.HEADERS, END_HEADERS, 5, block)
        first, second = await lines_of(b, 2)
        assert (first["verdict"], first["outcome"]) == ("failed", "STREAM_REFUSED")
        assert "got b':who'" in str(first["detail"])
        assert (second["outcome"], second["detail"]) == (
            "STREAM_REFUSED",
            "REFUSED_STREAM: the tunnel is draining and takes no more streams",
        )
