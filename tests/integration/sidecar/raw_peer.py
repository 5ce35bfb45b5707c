"""The other end of a sidecar's TLS, whose records a test can change before they are sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from meshtls.address import Address
from meshtls.tls.engine import TlsEngine
from tests.integration.sidecar.mesh import Streams, as_a, as_b, connected
from tests.support.tls import engine_of
from tests.support.waiting import SECONDS


@dataclass
class RawPeer:
    """TLS over TCP whose records a test can change before they are sent."""

    engine: TlsEngine
    streams: Streams

    async def shake(self) -> None:
        async with asyncio.timeout(SECONDS):
            while self.engine.handshake() is None:
                self.streams[1].write(self.engine.outgoing())
                self.engine.feed(await self.streams[0].read(1 << 14))
            self.streams[1].write(self.engine.outgoing())

    def send(self, data: bytes, *, turned: int = 0) -> None:
        """``turned`` is XORed with the last byte of the record."""
        record = self.engine.seal(data)
        self.streams[1].write(record[:-1] + bytes([record[-1] ^ turned]))

    async def receive(self) -> bytes:
        """What comes next; raises what the peer's alert stands for."""
        async with asyncio.timeout(SECONDS):
            while not (plain := self.engine.read()):
                data = await self.streams[0].read(1 << 14)
                assert data, "it ended without an alert"
                self.engine.feed(data)
        return plain


@contextlib.asynccontextmanager
async def a_raw_client(to: Address) -> AsyncIterator[RawPeer]:
    """A, as a sidecar's inbound knows it."""
    async with connected(to) as streams:
        peer = RawPeer(engine_of(as_a(), server_side=False), streams)
        await peer.shake()
        yield peer


@contextlib.asynccontextmanager
async def a_raw_server(met: Callable[[RawPeer], None]) -> AsyncIterator[Address]:
    """B, as a sidecar's outbound wants it; ``met`` is told of each that came."""
    peers: list[RawPeer] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RawPeer(engine_of(as_b(), server_side=True), (reader, writer))
        peers.append(peer)
        with contextlib.suppress(ConnectionError):
            await peer.shake()
            met(peer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield Address(*server.sockets[0].getsockname()[:2])
        finally:
            for peer in peers:
                peer.streams[1].close()
