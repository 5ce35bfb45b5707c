"""A peer that asks TLS for answers and reads none of them: it isn't read from, and nothing piles up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtls.sidecar.connection import Flow
from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import Session
from meshtls.tls.engine import MAX_OWED
from meshtls.wire.http2.frames import PREFACE, Kind, frame
from meshtls.wire.http2.settings import TunnelBounds
from tests.integration.sidecar.mesh import as_a, as_b
from tests.support.new_keys import Flood, KeyAsker
from tests.support.relaying import plain_end, relayed, tls_end
from tests.support.tls import engine_of
from tests.support.waiting import SECONDS, until

#: What one receive takes at most: so much may be asked for before an end is known to owe too much.
ONE_RECEIVE = 1 << 18
ROUNDS = 300


@pytest.fixture
def pairs() -> Iterator[list[socket.socket]]:
    """Two socket pairs: 0 and 1 are joined, 2 and 3 are joined; 1 takes little that 0 does not read."""
    sockets = [*socket.socketpair(), *socket.socketpair()]
    for one in sockets:
        one.setblocking(False)
    sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield sockets
    for one in sockets:
        one.close()


async def owes_little(end: TlsEnd, flood: Flood) -> None:
    """However much it is asked for, though more than nothing."""
    async for _ in flood.rage(ROUNDS):
        assert end.owed <= MAX_OWED + ONE_RECEIVE
    assert end.owed > MAX_OWED


async def test_a_relay_stops_to_read_a_peer_that_leaves_its_answers_unread(
    pairs: list[socket.socket], tmp_path: Path
) -> None:
    server = engine_of(as_b(), server_side=True)
    asker = KeyAsker(as_a(), server, tmp_path)
    end = tls_end(pairs[1], server, "the peer")
    task = asyncio.create_task(relayed(end, plain_end(pairs[2], "the app"), Flow(), 30))
    flood = Flood(asker, pairs[0])
    await owes_little(end, flood)
    async with asyncio.timeout(SECONDS):
        await flood.read_answers()
        await until(lambda: end.owed == 0)
        pairs[0].send(asker.says(b"and now the question"))
        assert await asyncio.get_running_loop().sock_recv(pairs[3], 100) == b"and now the question"
    task.cancel()
    await asyncio.wait([task])


async def test_a_peer_that_writes_before_it_reads_may_ask_for_new_keys_in_between(
    pairs: list[socket.socket], tmp_path: Path
) -> None:
    server = engine_of(as_b(), server_side=True)
    asker = KeyAsker(as_a(), server, tmp_path)
    end = tls_end(pairs[1], server, "the peer")
    task = asyncio.create_task(relayed(end, plain_end(pairs[2], "the app"), Flow(), 30))
    pairs[3].send(bytes(50_000))  # the peer reads none of this
    for number in range(100):
        pairs[0].send(asker.asks(1) + asker.says(b"%02d" % number))
        async with asyncio.timeout(SECONDS):
            assert await asyncio.get_running_loop().sock_recv(pairs[3], 100) == b"%02d" % number
    assert 0 < end.owed <= MAX_OWED
    task.cancel()
    await asyncio.wait([task])


async def test_a_tunnel_stops_to_read_a_peer_that_leaves_its_answers_unread(
    pairs: list[socket.socket], tmp_path: Path
) -> None:
    server = engine_of(as_b(), server_side=True)
    asker = KeyAsker(as_a(), server, tmp_path)
    end = tls_end(pairs[1], server, "the peer")
    ended: list[Exception | None] = []
    session = Session(
        end, TunnelBounds(), ReceiveMemory(), running_reactor(), client=False, idle_timeout=30, on_end=ended.append
    )
    session.start()
    pairs[0].send(asker.says(PREFACE + frame(Kind.SETTINGS, 0, 0, b"")))
    flood = Flood(asker, pairs[0])
    await owes_little(end, flood)
    assert session.blocked
    async with asyncio.timeout(SECONDS):
        reading = asyncio.create_task(flood.read_answers())
        await until(lambda: end.owed == 0 and not session.blocked)
        await reading
    assert ended == []
    session.break_off(ConnectionError("the test is over"))
