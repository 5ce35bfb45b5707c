"""The relay itself between two socket pairs, on both pollers."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Iterator

import pytest

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import LARGE, PlainEnd
from meshtls.sidecar.loop import selector_of
from meshtls.sidecar.poller import EpollPoller, LoopPoller
from meshtls.sidecar.reactor import running_reactor
from tests.support.authority import context_for, make_authority
from tests.support.relaying import plain_end, relayed, tls_end
from tests.support.tls import Ends, engine_of, shake
from tests.support.waiting import SECONDS

AUTHORITY = make_authority()


@pytest.fixture(params=["epoll", "add_reader"])
def on_each_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "add_reader":
        monkeypatch.delattr(select, "epoll")
    return str(request.param)


@pytest.fixture
def pairs() -> Iterator[list[socket.socket]]:
    """Two socket pairs: 0 and 1 are joined, 2 and 3 are joined; the relay is put between 1 and 2."""
    sockets = [*socket.socketpair(), *socket.socketpair()]
    for one in sockets:
        one.setblocking(False)
    yield sockets
    for one in sockets:
        one.close()


async def send_all(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)


async def read_all(sock: socket.socket) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while chunk := await loop.sock_recv(sock, 1 << 16):
        data += chunk
    return data


async def test_the_machines_best_poller_is_taken(on_each_poller: str) -> None:
    wanted = EpollPoller if on_each_poller == "epoll" else LoopPoller
    assert type(running_reactor().poller) is wanted
    assert running_reactor().poller is running_reactor().poller


async def test_on_its_own_loop_the_relays_sockets_are_in_the_loops_epoll(request: pytest.FixtureRequest) -> None:
    mine: object = running_reactor().poller
    selector = selector_of(asyncio.get_running_loop())
    assert (selector is not None and selector.guest is mine) is ("own-loop" in request.node.name)


@pytest.mark.usefixtures("on_each_poller")
async def test_both_directions_arrive_whole_and_end_one_by_one(pairs: list[socket.socket]) -> None:
    there, back = os.urandom(3_000_000), os.urandom(2_000_000)
    flow = Flow()
    async with asyncio.TaskGroup() as group:
        group.create_task(relayed(plain_end(pairs[1], "opener"), plain_end(pairs[2], "app"), flow, 30))
        group.create_task(send_all(pairs[0], there))
        arrived = await read_all(pairs[3])
        assert arrived == there
        group.create_task(send_all(pairs[3], back))
        assert await read_all(pairs[0]) == back
    assert (flow.bytes_in, flow.bytes_out) == (len(there), len(back))


@pytest.mark.usefixtures("on_each_poller")
async def test_bytes_read_before_the_relay_go_first(pairs: list[socket.socket]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(relayed(plain_end(pairs[1], "opener", b"first, "), plain_end(pairs[2], "app"), Flow(), 30))
        group.create_task(send_all(pairs[0], b"then the rest"))
        assert await read_all(pairs[3]) == b"first, then the rest"
        pairs[3].shutdown(socket.SHUT_WR)


@pytest.mark.usefixtures("on_each_poller")
async def test_an_idle_relay_ends_after_its_timeout(pairs: list[socket.socket]) -> None:
    with pytest.raises(EndedError, match="no byte moved for 0.02 s") as ended:
        await relayed(plain_end(pairs[1], "opener"), plain_end(pairs[2], "app"), Flow(), 0.02)
    assert ended.value.outcome is Outcome.IDLE_TIMEOUT


@pytest.mark.usefixtures("on_each_poller")
async def test_a_cancelled_relay_leaves_its_sockets_alone(pairs: list[socket.socket]) -> None:
    task = asyncio.create_task(relayed(plain_end(pairs[1], "opener"), plain_end(pairs[2], "app"), Flow(), 30))
    await asyncio.get_running_loop().sock_sendall(pairs[0], b"x")
    assert await asyncio.get_running_loop().sock_recv(pairs[3], 1) == b"x"
    task.cancel()
    await asyncio.wait([task])
    pairs[0].send(b"y")
    assert await asyncio.get_running_loop().sock_recv(pairs[1], 1) == b"y", "nobody else read it"


@pytest.mark.usefixtures("on_each_poller")
async def test_a_reader_that_stops_costs_at_most_the_buffers(pairs: list[socket.socket]) -> None:
    task = asyncio.create_task(relayed(plain_end(pairs[1], "opener"), plain_end(pairs[2], "app"), Flow(), 30))
    data = os.urandom(16_000_000)
    sender = asyncio.create_task(send_all(pairs[0], data))
    await asyncio.wait([sender], timeout=0.1)
    assert not sender.done(), "the kernel's buffers and one chunk are full, and nothing more is taken"
    assert await read_all(pairs[3]) == data
    pairs[3].shutdown(socket.SHUT_WR)
    await asyncio.wait_for(task, SECONDS)
    await sender


@pytest.mark.usefixtures("on_each_poller")
async def test_a_failure_inside_ends_that_relay_and_no_other(
    pairs: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty(PlainEnd):
        def receive(self, limit: int = LARGE) -> memoryview | None:
            raise ZeroDivisionError("a defect")

    others = [*socket.socketpair(), *socket.socketpair()]
    for one in others:
        one.setblocking(False)
    sound = asyncio.create_task(relayed(plain_end(others[1], "opener"), plain_end(others[2], "app"), Flow(), 30))
    pairs[0].send(b"x")
    with pytest.raises(ZeroDivisionError):
        await relayed(Faulty(pairs[1], "opener", running_reactor().buffers), plain_end(pairs[2], "app"), Flow(), 30)
    await send_all(others[0], b"still moving")
    assert await read_all(others[3]) == b"still moving"
    others[3].shutdown(socket.SHUT_WR)
    await sound
    for one in others:
        one.close()


@pytest.mark.parametrize("size", [1, 100, 16_384, 16_385, 100_000])
async def test_tls_records_cut_anywhere_arrive_byte_for_byte(pairs: list[socket.socket], size: int) -> None:
    client = engine_of(context_for(AUTHORITY, "/client"), server_side=False)
    server = engine_of(context_for(AUTHORITY, "/server"), server_side=True)
    assert shake(client, server) == Ends()
    data = os.urandom(size)
    sealed = client.seal(data)
    client.close_write()
    sealed += client.outgoing()
    task = asyncio.create_task(relayed(tls_end(pairs[1], server, "peer"), plain_end(pairs[2], "app"), Flow(), 30))
    step = max(1, len(sealed) // 97)
    for start in range(0, len(sealed), step):
        pairs[0].send(sealed[start : start + step])
        await asyncio.sleep(0)
    assert await read_all(pairs[3]) == data
    pairs[3].shutdown(socket.SHUT_WR)
    await task
    answer = await read_all(pairs[0])
    client.feed(answer)
    assert client.read() == b""
    assert client.peer_closed


async def test_a_tls_peer_that_is_cut_off_is_a_reset_and_no_end(pairs: list[socket.socket]) -> None:
    client = engine_of(context_for(AUTHORITY, "/client"), server_side=False)
    server = engine_of(context_for(AUTHORITY, "/server"), server_side=True)
    assert shake(client, server) == Ends()
    pairs[0].send(client.seal(b"half a mes"))
    pairs[0].shutdown(socket.SHUT_WR)
    with pytest.raises(EndedError, match="the peer ended its TCP connection without close_notify"):
        await relayed(tls_end(pairs[1], server, "the peer"), plain_end(pairs[2], "app"), Flow(), 30)
    assert pairs[3].recv(100) == b"half a mes"
    with pytest.raises(BlockingIOError):
        pairs[3].recv(1)
