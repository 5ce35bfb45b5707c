"""A record that was changed on the way: nothing of it reaches the app, and the peer is told by an alert."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from meshtls.errors import HandshakeError
from meshtls.sidecar.address import Address
from meshtls.tls.engine import TlsEngine
from tests.integration.sidecar.mesh import Streams, an_app, as_a, as_b, connected, rest, side_a, side_b
from tests.support.tls import engine_of
from tests.support.waiting import SECONDS

#: As OpenSSL 3.0 says it, and 3.5.
BAD_MAC = ("TLS failed: decryption failed or bad record mac", "TLS failed: record layer failure")
REFUSED = "the peer refused the connection with the alert 'bad record mac'"


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
async def a_raw_server(met: asyncio.Future[RawPeer]) -> AsyncIterator[Address]:
    """B, as a sidecar's outbound wants it; ``met`` is who came first."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RawPeer(engine_of(as_b(), server_side=True), (reader, writer))
        await peer.shake()
        met.set_result(peer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Address(*server.sockets[0].getsockname()[:2])
        (await met).streams[1].close()


async def test_a_peer_whose_record_is_broken_is_told_and_the_app_is_reset() -> None:
    async with an_app() as app, side_b(app.address) as b, a_raw_client(b.inbound) as peer:
        peer.send(b"whole")
        assert await peer.receive() == b"whole"
        peer.send(b"broken", turned=1)
        with pytest.raises(HandshakeError) as told:
            await peer.receive()
        assert str(told.value) == REFUSED
        line = await b.lines.next()
        assert (line["outcome"], line["bytes_in"]) == ("RESET", 5)
        assert line["detail"] in BAD_MAC
        assert await asyncio.wait_for(app.ended.get(), SECONDS) == "reset"
    assert app.received == 5


@pytest.mark.parametrize("turned", [0, 1])
async def test_an_outbound_tells_the_far_side_whose_record_is_broken_and_resets_its_own_app(turned: int) -> None:
    met: asyncio.Future[RawPeer] = asyncio.get_running_loop().create_future()
    async with a_raw_server(met) as to, side_a(to) as a, connected(a.outbound) as streams:
        streams[1].write(b"ping")
        peer = await asyncio.wait_for(met, SECONDS)
        assert await peer.receive() == b"ping"
        peer.send(b"pong", turned=turned)
        if not turned:
            assert await streams[0].readexactly(4) == b"pong"
            return
        with pytest.raises(HandshakeError) as told:
            await peer.receive()
        assert str(told.value) == REFUSED
        with pytest.raises(ConnectionResetError):
            await rest(streams)
        assert await a.lines.outcome() == "HANDSHAKE_FAILED"
