"""An HTTP/2 client that sends arbitrary frames, and reads the responses."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import hpack

__all__ = ["CANCEL", "PREFACE", "Frame", "RawHttp2", "anonymous_tls", "frame", "raw_http2"]

_SECONDS = 60.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
#: The error code of RST_STREAM for a call that is no longer wanted.
CANCEL = struct.pack(">I", 8)


def anonymous_tls() -> ssl.SSLContext:
    """A client context for HTTP/2 without a certificate, which accepts any server: identities are not tested here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class RawHttp2:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()

    def block(self, path: str, extra: Iterable[tuple[str, str]] = ()) -> bytes:
        """The headers of a gRPC call, compressed."""
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        headers += [("content-type", "application/grpc"), ("te", "trailers"), *extra]
        return bytes(self._encoder.encode(headers))

    def call(self, stream: int, path: str, message: bytes | None = None, *, end: bool = True) -> bytes:
        """HEADERS, and a message if given."""
        said = frame(HEADERS, END_HEADERS, stream, self.block(path))
        if message is not None:
            said += frame(DATA, END_STREAM if end else 0, stream, struct.pack(">BI", 0, len(message)) + message)
        return said

    def reset_call(self, stream: int, path: str, *, end: bool = False) -> bytes:
        """HEADERS, with ``end`` the whole request, and RST_STREAM at once."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream, self.block(path)) + frame(RST_STREAM, 0, stream, CANCEL)

    async def send(self, data: bytes) -> None:
        """Send. Raises ConnectionError if the other side has closed the connection."""
        self.writer.write(data)
        async with asyncio.timeout(_SECONDS):
            await self.writer.drain()

    async def next(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        async with asyncio.timeout(_SECONDS):
            try:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def next_of(self, kind: int) -> Frame:
        """The next frame of this kind; others before it are dropped."""
        while (found := await self.next()) is not None:
            if found.kind == kind:
                return found
        raise AssertionError(f"wanted a frame of kind {kind}, got the end of the connection")

    async def next_headers(self) -> dict[str, str]:
        return self.decoded(await self.next_of(HEADERS))

    def decoded(self, headers: Frame) -> dict[str, str]:
        """The fields of a HEADERS frame. Every block must be decoded, in order (RFC 7541, section 2.2)."""
        return {str(name): str(value) for name, value in self._decoder.decode(headers.payload)}

    async def farewell(self) -> tuple[int, str]:
        """The code and reason of the GOAWAY; checks that the connection ends after it."""
        found = await self.next_of(GOAWAY)
        while await self.next() is not None:
            pass
        return int.from_bytes(found.payload[4:8], "big"), found.payload[8:].decode()


@asynccontextmanager
async def raw_http2(
    where: Path | tuple[str, int], tls: ssl.SSLContext | None = None, *, greet: bool = True, source: str | None = None
) -> AsyncIterator[RawHttp2]:
    """Connect to a Unix socket or a port, from ``source``; ``greet`` sends the preface and SETTINGS."""
    if isinstance(where, Path):
        reader, writer = await asyncio.open_unix_connection(str(where))
    else:
        reader, writer = await asyncio.open_connection(*where, ssl=tls, local_addr=(source, 0) if source else None)
    client = RawHttp2(reader, writer)
    try:
        if greet:
            await client.send(PREFACE + frame(SETTINGS, 0, 0))
        yield client
    finally:
        writer.transport.abort()
