"""A reset is told to the other side at once, also where nothing is read from the one who was reset, or sent to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from meshtls.address import Address
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from tests.integration.sidecar.mesh import Streams, connected, rest, side_a, side_b
from tests.integration.sidecar.test_nothing_lost import reset
from tests.support.relaying import plain_end, relayed
from tests.support.waiting import SECONDS, until


@pytest.fixture
def pairs() -> Iterator[list[socket.socket]]:
    """Two TCP connections: 0 and 1 are joined, 2 and 3 are joined; the relay is put between 1 and 2."""
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):
            sockets += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    for one in sockets:
        one.setblocking(False)
    yield sockets
    for one in sockets:
        one.close()


def reset_now(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def a_relay(pairs: list[socket.socket]) -> asyncio.Task[None]:
    """The relay, running."""
    task = asyncio.create_task(relayed(plain_end(pairs[1], "the client"), plain_end(pairs[2], "the app"), Flow(), 60))
    await asyncio.sleep(0)
    return task


async def ended(task: asyncio.Task[None]) -> tuple[Outcome, str]:
    with pytest.raises(EndedError) as raised:
        await asyncio.wait_for(task, SECONDS)
    return raised.value.outcome, str(raised.value)


@pytest.mark.parametrize(("who", "far", "name"), [(0, 3, "the client"), (3, 0, "the app")])
async def test_a_reset_after_a_half_close_ends_the_relay(
    pairs: list[socket.socket], who: int, far: int, name: str
) -> None:
    task, loop = await a_relay(pairs), asyncio.get_running_loop()
    pairs[who].shutdown(socket.SHUT_WR)
    assert await loop.sock_recv(pairs[far], 1) == b""
    reset_now(pairs[who])
    assert await ended(task) == (Outcome.RESET, f"{name} broke off: [Errno 32] Broken pipe")


@pytest.mark.parametrize(("who", "far"), [(0, 3), (3, 0)])
async def test_a_half_closed_side_that_still_reads_is_not_disturbed(
    pairs: list[socket.socket], who: int, far: int
) -> None:
    task, loop = await a_relay(pairs), asyncio.get_running_loop()
    pairs[who].shutdown(socket.SHUT_WR)
    assert await loop.sock_recv(pairs[far], 1) == b""
    await loop.sock_sendall(pairs[far], b"the answer")
    assert await loop.sock_recv(pairs[who], 100) == b"the answer"
    pairs[far].shutdown(socket.SHUT_WR)
    await asyncio.wait_for(task, SECONDS)


@pytest.mark.parametrize(("who", "near", "name"), [(0, 1, "the client"), (3, 2, "the app")])
async def test_a_reset_of_a_side_paused_by_back_pressure_ends_the_relay(
    pairs: list[socket.socket], who: int, near: int, name: str
) -> None:
    for sock in pairs:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    task, loop = await a_relay(pairs), asyncio.get_running_loop()
    sending = asyncio.create_task(loop.sock_sendall(pairs[who], bytes(1 << 24)))
    done, _ = await asyncio.wait([sending], timeout=0.2)
    assert not done, "the other side reads nothing, and all buffers are full"
    sending.cancel()
    await asyncio.wait([sending])
    reset_now(pairs[who])
    assert await ended(task) == (Outcome.RESET, f"{name} broke off: [Errno 104] Connection reset by peer")


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "tunnel"])
async def test_a_client_that_asks_ends_its_side_and_is_reset_is_no_clean_end_for_the_app(tunnel: bool) -> None:
    asked: asyncio.Queue[Streams] = asyncio.Queue()

    async def computes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"question"
        asked.put_nowait((reader, writer))

    app = await asyncio.start_server(computes, "127.0.0.1", 0)
    here = Address(*app.sockets[0].getsockname())
    async with app, side_b(here, tunnel=tunnel) as b, side_a(b.inbound, tunnel=tunnel) as a:
        async with connected(a.outbound) as streams:
            streams[1].write(b"question")
            streams[1].write_eof()
            _, writer = await asyncio.wait_for(asked.get(), SECONDS)
            reset(streams[1])
        assert (await a.lines.outcome(), await b.lines.outcome()) == ("RESET", "RESET")
        await until(lambda: error_of_peer(writer) != 0)
        writer.transport.abort()


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "tunnel"])
async def test_an_app_that_ends_its_side_and_is_reset_is_no_clean_end_for_the_client(tunnel: bool) -> None:
    heard: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def ends_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"that is all")
        writer.write_eof()
        heard.put_nowait(writer)

    app = await asyncio.start_server(ends_first, "127.0.0.1", 0)
    here = Address(*app.sockets[0].getsockname())
    async with (
        app,
        side_b(here, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as streams,
    ):
        assert await rest(streams) == b"that is all"
        reset(await heard.get())
        assert (await a.lines.outcome(), await b.lines.outcome()) == ("RESET", "RESET")
        await until(lambda: error_of_peer(streams[1]) != 0)
        streams[1].transport.abort()


def error_of_peer(writer: asyncio.StreamWriter) -> int:
    """What broke the socket under it; 0 for nothing."""
    sock = writer.get_extra_info("socket")
    return 104 if sock.fileno() < 0 else int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
