"""Two sides of an HTTP/2 connection in memory, and raw frames that break its rules."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest

from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.wire.http2.connection import Http2Connection
from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, ProtocolError, frame
from meshtls.wire.http2.headers import NO_TABLE, ConnectRequest, connect_block
from meshtls.wire.http2.settings import TunnelBounds, own_settings
from meshtls.wire.http2.states import Expects, Http2State
from meshtls.wire.http2.streams import Stream

#: Small enough for tests to reach.
BOUNDS = TunnelBounds(streams=100, window=1 << 18)
HERE = b"127.0.0.1:8080"
CONNECT = NO_TABLE + connect_block(HERE)
OK = b"\x88"
SETTINGS = frame(Kind.SETTINGS, 0, 0, b"")
END_STREAM, END_HEADERS, PADDED, PRIORITY, ACK = 1, 4, 8, 32, 1


@dataclass
class Heard:
    """A sink that records all calls. It returns the window for received DATA, unless told not to."""

    crediting: bool = True
    events: list[tuple[object, ...]] = field(default_factory=list)
    data: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    rooms: int = 0
    http: Http2Connection | None = None

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        self.events.append(("requested", stream.number, request.method, request.authority, ended))

    def refused(self, error: ProtocolError) -> None:
        self.events.append(("refused", error.stream_id, error.code, str(error)))

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        self.events.append(("answered", stream.number, status, ended))

    def received(self, stream: Stream, data: memoryview | bytes, ended: bool) -> None:
        self.data[stream.number] = self.data.get(stream.number, b"") + bytes(data)
        if ended:
            self.ended.add(stream.number)
        if self.crediting and self.http:
            self.http.taken(stream, len(data))

    def broken(self, stream: Stream, code: ErrorCode, by_peer: bool) -> None:
        self.events.append(("broken", stream.number, code, by_peer))

    def window_grew(self, stream: Stream | None) -> None:
        self.rooms += 1


@dataclass
class Side:
    """One side: its connection, and the calls of its sink."""

    client: bool
    crediting: bool = True
    bounds: TunnelBounds = BOUNDS
    memory: ReceiveMemory = field(default_factory=ReceiveMemory)
    heard: Heard = field(init=False)
    http: Http2Connection = field(init=False)

    def __post_init__(self) -> None:
        self.heard = Heard(self.crediting)
        self.http = self.heard.http = Http2Connection(self.heard, self.bounds, self.memory, client=self.client)

    def says(self) -> bytes:
        """Take the bytes to send."""
        said = bytes(self.http.outgoing)
        self.http.outgoing.clear()
        return said

    def hears(self, data: bytes) -> None:
        self.http.feed(memoryview(data))

    def sends(self, stream: Stream, data: bytes) -> None:
        self.http.outgoing += self.http.data_header(stream, len(data)) + data

    def state(self) -> tuple[Http2State, Expects]:
        """The connection's states."""
        return self.http.state, self.http.expects

    def stream(self, number: int = 1) -> Stream:
        return self.http.streams[number]


def exchange(one: Side, other: Side) -> None:
    """Carry bytes both ways until neither side sends."""
    while (there := one.says()) or other.http.outgoing:
        other.hears(there)
        one.hears(other.says())


def pair(*, crediting: bool = True) -> tuple[Side, Side]:
    """A client and a server that have each other's SETTINGS."""
    client, server = Side(True, crediting), Side(False, crediting)
    exchange(client, server)
    return client, server


def connected(*, crediting: bool = True) -> tuple[Side, Side]:
    """The same with stream 1 open and accepted."""
    client, server = pair(crediting=crediting)
    client.http.open(HERE)
    exchange(client, server)
    server.http.accept(server.stream())
    exchange(client, server)
    return client, server


def a_server(*frames: bytes) -> Side:
    """A server that has received a client's preface and these frames."""
    server = Side(False)
    server.hears(PREFACE + frame(Kind.SETTINGS, 0, 0, own_settings(BOUNDS, client=True)) + b"".join(frames))
    return server


def a_client(opened: int = 1) -> Side:
    """A client that has received SETTINGS, and has opened streams."""
    client = Side(True)
    client.hears(SETTINGS)
    for _ in range(opened):
        client.http.open(HERE)
    client.says()
    return client


def headers(number: int, block: bytes = CONNECT, flags: int = END_HEADERS) -> bytes:
    return frame(Kind.HEADERS, flags, number, block)


def data(number: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame(Kind.DATA, flags, number, payload)


def window_update(number: int, more: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, number, struct.pack(">L", more))


def rst_stream(number: int, code: int = ErrorCode.CANCEL) -> bytes:
    return frame(Kind.RST_STREAM, 0, number, struct.pack(">L", code))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HL", *one) for one in pairs))


def goaway(last: int, code: int = 0) -> bytes:
    return frame(Kind.GOAWAY, 0, 0, struct.pack(">LL", last, code))


def frames_of(said: bytes) -> list[tuple[Kind, int, int, bytes]]:
    """Kind, flags, stream and payload of each whole frame."""
    found = []
    while said:
        high, low, kind, flags, number = struct.unpack_from(">HBBBL", said)
        length = high << 8 | low
        found.append((Kind(kind), flags, number, said[9 : 9 + length]))
        said = said[9 + length :]
    return found


def connection_error(side: Side, wire: bytes) -> tuple[ErrorCode, str]:
    """The code and message of the connection's end after these frames; its GOAWAY must hold the same."""
    side.says()
    with pytest.raises(ProtocolError) as raised:
        side.hears(wire)
    code, words = raised.value.code, str(raised.value)
    kind, _, number, payload = frames_of(side.says())[-1]
    assert (kind, number) == (Kind.GOAWAY, 0)
    assert payload[4:] == struct.pack(">L", code) + words.encode()
    return code, words


def stream_error(side: Side, wire: bytes) -> tuple[int, ErrorCode]:
    """The one stream that is reset after these frames, and the code; the connection must continue."""
    side.says()
    side.hears(wire)
    resets = [(number, payload) for kind, _, number, payload in frames_of(side.says()) if kind is Kind.RST_STREAM]
    assert len(resets) == 1, resets
    return resets[0][0], ErrorCode(int.from_bytes(resets[0][1], "big"))
