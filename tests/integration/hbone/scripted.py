"""An HBONE proxy of raw frames, in both roles: correct, and as awkward as RFC 9113 allows.

Frames have odd sizes and padding, header blocks are split into two frames, and a stream whose app has ended is reset
with NO_ERROR if ``Ways`` says so. Of the sidecar's code it uses the builder of frames only.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hpack

from meshtls.address import Address
from meshtls.wire.http2.frames import ErrorCode, Kind, frame
from tests.integration.sidecar.tunnel.test_tunnel_peers import context

__all__ = ["ScriptedClient", "Ways", "scripted_client", "scripted_server"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1
WINDOW = 1 << 20
PIECES = itertools.cycle([1, 16_000, 16_128, 9, 16_128, 16_128, 16_128, 16_128])
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Ways:
    """Options of the proxy. ``streams``: the streams of each connection before GOAWAY; 0 for no limit."""

    streams: int = 0
    resets_with_no_error: bool = False


@dataclass(eq=False)
class Stream:
    number: int
    window: int
    app: Streams | None = None
    inbox: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    complete: bool = False


class Connection:
    """One HTTP/2 connection; each of its streams is joined to one TCP connection."""

    def __init__(self, wire: Streams, ways: Ways, group: asyncio.TaskGroup, *, client: bool) -> None:
        self.reader, self.writer = wire
        self.ways = ways
        self.group = group
        self.client = client
        self.streams: dict[int, Stream] = {}
        self.initial = self.window = 65_535
        self.opened = 0
        self.leaving = False
        self.over = False
        self._room = asyncio.Condition()
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        if client:
            self.writer.write(PREFACE)
        self.says(Kind.SETTINGS, 0, 0, struct.pack(">HLHL", 4, WINDOW, 3, 1000))
        self.says(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">L", 4 * WINDOW))

    def abort(self) -> None:
        # Python before 3.11.4 can't, where it is closed already.
        with contextlib.suppress(AttributeError):
            self.writer.transport.abort()

    def says(self, kind: Kind, flags: int, number: int, payload: bytes = b"") -> None:
        if not self.over:
            self.writer.write(frame(kind, flags, number, payload))

    def says_headers(self, number: int, *fields: tuple[str, str]) -> None:
        block = self._encoder.encode(fields)
        self.says(Kind.HEADERS, 0, number, block[:1])
        self.says(Kind.CONTINUATION, END_HEADERS, number, block[1:])

    async def run(self, app: Address | None) -> None:
        """Read to the end; ``app`` is dialled for each stream of a server's."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            if not self.client:
                await self.reader.readexactly(len(PREFACE))
            while not (self.leaving and not self.streams):
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                await self._take(Kind(head[3]), head[4], int.from_bytes(head[5:9], "big"), payload, app)
        self.over = True
        for stream in list(self.streams.values()):
            if stream.complete:
                del self.streams[stream.number]
            else:
                self._gone(stream)
        async with self._room:
            self._room.notify_all()
        self.writer.close()

    async def _take(self, kind: Kind, flags: int, number: int, payload: bytes, app: Address | None) -> None:
        stream = self.streams.get(number)
        if kind is Kind.SETTINGS and not flags & ACK:
            for key, value in struct.iter_unpack(">HL", payload):
                if key == 4:
                    for one in self.streams.values():
                        one.window += value - self.initial
                    self.initial = value
            self.says(Kind.SETTINGS, ACK, 0)
        elif kind is Kind.WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            self.window += 0 if number else more
            if stream:
                stream.window += more
        elif kind is Kind.PING and not flags & ACK:
            self.says(Kind.PING, ACK, 0, payload)
        elif kind is Kind.HEADERS:
            fields = dict(self._decoder.decode(payload, raw=True))
            if self.client and stream:
                assert fields[b":status"] == b"200", fields
                stream.answered.set()
            elif not self.client and app:
                self._asked(number, app)
        elif kind is Kind.DATA and stream:
            if payload:
                stream.inbox.put_nowait(payload)
            if flags & END_STREAM:
                stream.complete = True
                stream.inbox.put_nowait(None)
        elif kind is Kind.DATA and payload:
            self._return(0, len(payload))
        elif kind is Kind.RST_STREAM and stream:
            self._gone(stream)
        elif kind is Kind.GOAWAY:
            self.leaving = True
        async with self._room:
            self._room.notify_all()

    def _asked(self, number: int, app: Address) -> None:
        if self.leaving:
            return  # above the last stream of our GOAWAY
        self.opened += 1
        stream = self.streams[number] = Stream(number, self.initial)
        self.group.create_task(self._serve(stream, app))
        if self.opened == self.ways.streams:
            self.leaving = True
            self.says(Kind.GOAWAY, 0, 0, struct.pack(">LL", number, 0))

    async def _serve(self, stream: Stream, app: Address) -> None:
        stream.app = await asyncio.open_connection(app.host, app.port, limit=1 << 20)
        self.says_headers(stream.number, (":status", "200"))
        await self._join(stream)

    async def open(self, app: Streams, authority: str) -> None:
        """Carry this app's connection to its end."""
        stream = self.streams[2 * self.opened + 1] = Stream(2 * self.opened + 1, self.initial, app)
        self.opened += 1
        self.says_headers(stream.number, (":method", "CONNECT"), (":authority", authority))
        if self.opened == self.ways.streams:
            self.leaving = True
            self.says(Kind.GOAWAY, 0, 0, bytes(8))
        await self._join(stream)

    async def _join(self, stream: Stream) -> None:
        assert stream.app
        async with asyncio.TaskGroup() as both:
            both.create_task(self._from_app(stream, stream.app[0]))
            both.create_task(self._to_app(stream, stream.app[1]))
        if stream.number in self.streams:
            del self.streams[stream.number]
        stream.app[1].close()
        if self.leaving and not self.streams:
            self.over = True
            self.writer.close()

    async def _from_app(self, stream: Stream, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(1 << 18):
                await self._send(stream, data)
        except OSError:
            if self.streams.pop(stream.number, None):
                self.says(Kind.RST_STREAM, 0, stream.number, struct.pack(">L", ErrorCode.CONNECT_ERROR))
                stream.inbox.put_nowait(None)
            return
        if stream.number in self.streams:
            self.says(Kind.DATA, END_STREAM, stream.number)
            if self.ways.resets_with_no_error and not self.client:
                self.says(Kind.RST_STREAM, 0, stream.number, bytes(4))
                del self.streams[stream.number]
                stream.inbox.put_nowait(None)

    async def _send(self, stream: Stream, data: bytes) -> None:
        view = memoryview(data)
        while view and stream.number in self.streams:
            async with self._room:
                await self._room.wait_for(
                    lambda: min(stream.window, self.window) > 300 or stream.number not in self.streams
                )
            count = min(next(PIECES), len(view), stream.window - 256, self.window - 256)
            padding = 255 if count == 9 else 0
            payload = bytes([padding]) * bool(padding) + view[:count] + bytes(padding)
            self.says(Kind.DATA, PADDED if padding else 0, stream.number, payload)
            stream.window -= len(payload)
            self.window -= len(payload)
            view = view[count:]
            await self.writer.drain()

    async def _to_app(self, stream: Stream, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while (data := await stream.inbox.get()) is not None:
                writer.write(data)
                await writer.drain()
                self._return(stream.number, len(data))
                self._return(0, len(data))
            if not writer.transport.is_closing():
                writer.write_eof()

    def _return(self, number: int, count: int) -> None:
        if not number or number in self.streams:
            self.says(Kind.WINDOW_UPDATE, 0, number, struct.pack(">L", count))

    def _gone(self, stream: Stream) -> None:
        """The peer has reset the stream: reset the app's connection."""
        self.streams.pop(stream.number, None)
        stream.inbox.put_nowait(None)
        if stream.app:
            sock = stream.app[1].get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.app[1].transport.abort()


@asynccontextmanager
async def scripted_server(app: Address, ways: Ways) -> AsyncIterator[Address]:
    """Takes tunnels as B, and dials ``app`` for each stream."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(Connection((reader, writer), ways, group, client=False))
        await connections[-1].run(app)

    connections: list[Connection] = []
    async with asyncio.TaskGroup() as group:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context(server_side=True), limit=1 << 20)
        async with server:
            yield Address(*server.sockets[0].getsockname()[:2])
            for one in connections:
                one.abort()


@dataclass
class ScriptedClient:
    """``address`` takes TCP connections, each of which becomes a stream."""

    address: Address
    connections: list[Connection]


@asynccontextmanager
async def scripted_client(to: Address, authority: str, ways: Ways) -> AsyncIterator[ScriptedClient]:
    """Opens tunnels as A, one at a time."""
    connections: list[Connection] = []
    dialling = asyncio.Lock()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with dialling:
            if not connections or connections[-1].leaving or connections[-1].over:
                wire = await asyncio.open_connection(
                    to.host, to.port, ssl=context(server_side=False), server_hostname="", limit=1 << 20
                )
                connections.append(Connection(wire, ways, group, client=True))
                group.create_task(connections[-1].run(None))
        await connections[-1].open((reader, writer), authority)

    async with asyncio.TaskGroup() as group:
        server = await asyncio.start_server(take, "127.0.0.1", 0, limit=1 << 20, backlog=1024)
        async with server:
            yield ScriptedClient(Address(*server.sockets[0].getsockname()[:2]), connections)
            for one in connections:
                one.abort()
