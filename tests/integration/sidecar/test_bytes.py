"""Bytes through two sidecars: all of them, in order, with half-close, back-pressure, and truncation seen as such."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct

import pytest

from meshtls.address import Address
from meshtls.sidecar.poller import EpollPoller
from meshtls.sidecar.reactor import running_reactor
from tests.integration.sidecar.mesh import Streams, an_app, as_a, connected, echoed, side_a, side_b
from tests.support.tls import engine_of
from tests.support.waiting import until

BLOCK = bytes(range(256)) * 4096  # 1 MiB
BLOCKS = 64


async def test_64_mib_go_both_ways_at_once_and_the_half_close_ends_them() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
            group.create_task(send_all(streams))
            digest, size = hashlib.sha256(), 0
            while data := await streams[0].read(1 << 20):
                digest.update(data)
                size += len(data)
        at_a, at_b = await a.lines.next(), await b.lines.next()
        assert await app.ended.get() == "EOF"
    assert size == BLOCKS * len(BLOCK)
    assert digest.digest() == hashlib.sha256(BLOCK * BLOCKS).digest()
    for line in (at_a, at_b):
        assert (line["outcome"], line["bytes_in"], line["bytes_out"]) == ("OK", size, size)


async def send_all(streams: Streams, blocks: int = BLOCKS) -> None:
    for _ in range(blocks):
        streams[1].write(BLOCK)
        await streams[1].drain()
    streams[1].write_eof()


async def test_200_connections_at_once_each_get_their_own_bytes() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:

        async def one(number: int) -> None:
            async with connected(a.outbound) as streams:
                assert await echoed(streams, b"%05d" % number) == b"%05d" % number
                arrived.add(number)
                if len(arrived) == 200:
                    everyone.set()
                await everyone.wait()

        arrived: set[int] = set()
        everyone = asyncio.Event()
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(one(number))
        assert app.connections == 200
        assert [await b.lines.outcome() for _ in range(200)] == ["OK"] * 200


async def test_a_reader_that_stops_stops_its_writer() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        sending = asyncio.create_task(send_all(streams, BLOCKS * 16))
        await until(lambda: waiting_to_write() == 4)  # both sidecars, both directions: nothing moves any more
        assert app.received < BLOCKS * len(BLOCK)
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
        streams[1].transport.abort()


def waiting_to_write() -> int:
    """Sockets of this loop's relays that take no more."""
    watcher = running_reactor().poller
    assert isinstance(watcher, EpollPoller)
    return sum(watched.write is not None and watched.read is None for watched in watcher.watched.values())


async def test_a_tls_peer_that_is_cut_off_resets_the_app_instead_of_ending_it() -> None:
    async with an_app() as app, side_b(app.address) as b:
        with await tls_client(b.inbound, b"half of a mess") as sock:
            sock.shutdown(socket.SHUT_WR)  # TCP ends, TLS does not
            line = await b.lines.next()
        assert (line["outcome"], line["bytes_in"]) == ("RESET", 14)
        assert line["detail"] == "the peer ended its TCP connection without close_notify"
        assert await app.ended.get() == "reset"


async def test_a_tls_peer_that_ends_properly_ends_the_app() -> None:
    async with an_app() as app, side_b(app.address) as b:
        with await tls_client(b.inbound, b"a whole message", close_notify=True) as sock:
            sock.shutdown(socket.SHUT_WR)
            line = await b.lines.next()
        assert (line["outcome"], line["bytes_in"], line["bytes_out"]) == ("OK", 15, 15)
        assert await app.ended.get() == "EOF"


async def tls_client(address: Address, message: bytes, *, close_notify: bool = False) -> socket.socket:
    """Handshake as A and send; the socket, for the caller to end as it likes."""
    loop, engine = asyncio.get_running_loop(), engine_of(as_a(), server_side=False)
    sock = socket.create_connection((address.host, address.port))
    sock.setblocking(False)
    while engine.handshake() is None:
        await loop.sock_sendall(sock, engine.outgoing())
        engine.feed(await loop.sock_recv(sock, 1 << 16))
    engine.write(message)
    if close_notify:
        engine.close_write()
    await loop.sock_sendall(sock, engine.outgoing())
    return sock


async def test_an_app_that_breaks_off_is_no_clean_end_for_the_caller() -> None:
    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await reader.readexactly(4)
        writer.transport.abort()

    app = await asyncio.start_server(breaks_off, "127.0.0.1", 0)
    async with app, side_b(Address(*app.sockets[0].getsockname())) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        assert (await a.lines.outcome(), await b.lines.outcome()) == ("RESET", "RESET")
