"""A fatal alert reaches the peer whatever it does: reads at once, sends on before it reads, or has much to send."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.errors import HandshakeError
from meshtls.policy.authorizer import authorize_id
from meshtls.svid.context import ConstantSource
from meshtls.tls.context import TlsOptions
from meshtls.tls.streams import dial, listen
from meshtls.wire.http2.frames import PREFACE, Kind, frame
from tests.integration.sidecar.mesh import (
    A,
    B,
    an_app,
    as_a,
    as_b,
    connected,
    patient,
    rest,
    side_a,
    side_b,
)
from tests.integration.sidecar.raw_peer import RawPeer, a_raw_server
from tests.support.new_keys import BlockingAsker
from tests.support.waiting import SECONDS

REPETITIONS = 25
MANY = patient(connections=4096)
ILLEGAL = "the peer refused the connection with the alert 'illegal parameter'"
BAD_MAC = "the peer refused the connection with the alert 'bad record mac'"
TUNNEL = TlsOptions(alpn=("h2",))


def at_once(peer: BlockingAsker) -> None:
    peer.sock.sendall(peer.breaks())


def with_more_in_the_same_packet(peer: BlockingAsker) -> None:
    peer.sock.sendall(peer.breaks() + peer.says(b"more") * 3)


def sending_on(peer: BlockingAsker) -> None:
    """The alert has come, and lies there."""
    peer.sock.sendall(peer.breaks())
    select.select([peer.sock], [], [], SECONDS)
    for _ in range(5):
        peer.sock.sendall(peer.says(b"more"))


def sending_much_before_it_reads(peer: BlockingAsker) -> None:
    peer.sock.sendall(peer.breaks() + peer.says(bytes(16_000)) * 400)


@asynccontextmanager
async def a_relay() -> AsyncIterator[tuple[Address, TlsOptions, bytes]]:
    async with an_app() as app, side_b(app.address, limits=MANY) as b:
        yield b.inbound, TlsOptions(), b"hello"


@asynccontextmanager
async def a_relay_with_much_to_say() -> AsyncIterator[tuple[Address, TlsOptions, bytes]]:
    """More than the peer takes before it breaks: the alert is behind a rest that is still to be sent."""
    async with an_app(greeting=bytes(1 << 23)) as app, side_b(app.address, limits=MANY) as b:
        yield b.inbound, TlsOptions(), b"hello"


@asynccontextmanager
async def a_tunnel() -> AsyncIterator[tuple[Address, TlsOptions, bytes]]:
    async with an_app() as app, side_b(app.address, limits=MANY, tunnel=True) as b:
        yield b.inbound, TUNNEL, PREFACE + frame(Kind.SETTINGS, 0, 0, b"")


@asynccontextmanager
async def a_listener() -> AsyncIterator[tuple[Address, TlsOptions, bytes]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(HandshakeError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    source = ConstantSource(as_b())
    async with await listen("127.0.0.1", 0, source, authorize_id(A), echo) as listener:
        yield Address(*listener.address), TlsOptions(), b"hello"


Served = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Address, TlsOptions, bytes]]]


@pytest.mark.parametrize("breaks", [at_once, with_more_in_the_same_packet, sending_on, sending_much_before_it_reads])
@pytest.mark.parametrize("served", [a_relay, a_relay_with_much_to_say, a_tunnel, a_listener])
async def test_a_peer_with_a_bad_key_update_reads_the_alert_every_time(
    served: Served, breaks: Callable[[BlockingAsker], None], tmp_path: Path
) -> None:
    def told(to: Address, options: TlsOptions, greeting: bytes) -> str:
        with BlockingAsker(as_a(), to.host, to.port, tmp_path, options) as peer:
            peer.sock.sendall(peer.says(greeting))
            assert peer.receive()
            try:
                breaks(peer)
                while peer.receive():
                    pass
            except (HandshakeError, OSError) as error:
                return str(error)
            return "it ended without an alert"

    async with served() as place:
        seen = Counter([await asyncio.to_thread(told, *place) for _ in range(REPETITIONS)])
    assert seen == {ILLEGAL: REPETITIONS}


@pytest.mark.parametrize("client", ["outbound", "warm", "dial"])
async def test_a_server_whose_record_is_broken_reads_the_alert_though_it_sends_on(client: str) -> None:
    met: asyncio.Queue[RawPeer] = asyncio.Queue()
    async with a_raw_server(met.put_nowait) as to, contextlib.AsyncExitStack() as stack:
        if client == "dial":
            source = ConstantSource(as_a())
            _, writer = await dial(to.host, to.port, source, authorize_id(B))
            stack.callback(writer.close)
        else:
            a = await stack.enter_async_context(side_a(to, warm=1 if client == "warm" else 0))
            if client == "outbound":
                streams = await stack.enter_async_context(connected(a.outbound))
                streams[1].write(b"ping")
        peer = await asyncio.wait_for(met.get(), SECONDS)
        if client == "outbound":
            assert await peer.receive() == b"ping"
        peer.send(b"broken", turned=1)
        with pytest.raises(HandshakeError, match=BAD_MAC):
            await peer.receive()
        for _ in range(5):
            peer.streams[1].write(b"more")
            await peer.streams[1].drain()
        assert await rest(peer.streams) == b""  # and no reset
