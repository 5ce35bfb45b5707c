"""The streams of ``dial`` and ``listen`` beside a peer that asks TLS for answers and reads none of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from meshtls.tls.engine import MAX_OWED, TlsEngine
from meshtls.tls.protocol import TlsProtocol
from tests.support.authority import context_for, make_authority
from tests.support.new_keys import Flood, KeyAsker
from tests.support.tls import engine_of
from tests.support.waiting import SECONDS, until

OURS = make_authority("example.org")
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"
#: Where the transport asks its user to pause, and what one receive takes at most, on either loop.
LIMIT, ONE_RECEIVE = 1 << 16, 1 << 18
ROUNDS = 300


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Of which the kernel buffers little, either way."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        near = stack.enter_context(socket.socket())
        for one in (listener, near):  # what a listener accepts has its sizes
            for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                one.setsockopt(socket.SOL_SOCKET, size, 4096)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        stack.pop_all()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


@contextlib.asynccontextmanager
async def joined(server: TlsEngine) -> AsyncIterator[tuple[socket.socket, asyncio.StreamReader, asyncio.Transport]]:
    """A peer's socket, and our side of the connection as a stream; ``server`` has shaken hands already."""
    near, far = tcp_pair()
    reader = asyncio.StreamReader()
    protocol = TlsProtocol(lambda _tcp: server, asyncio.StreamReaderProtocol(reader))
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=far)
    transport = await protocol.ready
    try:
        yield near, reader, transport
    finally:
        near.close()
        transport.abort()
        await protocol.closed


async def test_a_peer_that_leaves_its_answers_unread_is_not_read_from(tmp_path: Path) -> None:
    server = engine_of(context_for(OURS, SERVER), server_side=True)
    asker = KeyAsker(context_for(OURS, CLIENT), server, tmp_path)
    async with joined(server) as (near, reader, transport):
        flood = Flood(asker, near)
        async for _ in flood.rage(ROUNDS):
            assert transport.get_write_buffer_size() <= LIMIT + MAX_OWED + ONE_RECEIVE
        async with asyncio.timeout(SECONDS):
            while transport.get_write_buffer_size() <= LIMIT:
                async for _ in flood.rage(1):
                    assert transport.get_write_buffer_size() <= LIMIT + MAX_OWED + ONE_RECEIVE
        async with asyncio.timeout(20):
            await flood.read_answers()
            near.send(asker.says(b"and now the question"))
            assert await reader.read(100) == b"and now the question"


async def test_a_user_who_paused_reading_is_not_woken_by_answers_that_were_read(tmp_path: Path) -> None:
    server = engine_of(context_for(OURS, SERVER), server_side=True)
    asker = KeyAsker(context_for(OURS, CLIENT), server, tmp_path)
    async with joined(server) as (near, reader, transport):
        flood = Flood(asker, near)
        async for _ in flood.rage(ROUNDS):
            pass
        assert transport.is_reading()
        transport.pause_reading()
        reading = asyncio.create_task(flood.read_answers())
        await until(lambda: not transport.get_write_buffer_size())
        assert not transport.is_reading()
        assert not reading.done()
        transport.resume_reading()
        async with asyncio.timeout(20):
            await reading
            near.send(asker.says(b"and now the question"))
            assert await reader.read(100) == b"and now the question"
