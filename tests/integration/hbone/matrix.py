"""The traffic through an HBONE tunnel, with any peer: each play is one row of the matrix, checked byte for byte.

``play(world, size)`` acts as the calling app and the called one at once, for connections that carry ``size`` bytes. A
burst is 300 connections at once, and a churn is 30 connections while tunnels are drained: in these, ``size`` is per
connection up to 100 kB, and the total above that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meshtls.address import Address
from tests.integration.sidecar.mesh import Node

__all__ = ["PLAYS", "SIZES", "App", "World", "an_app"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SIZES = {"1 byte": 1, "100 kB": 100_000, "50 MB": 50_000_000}
BURST, CHURN = 300, 30
LARGEST_OF_MANY = 100_000
SECONDS = 50.0
LIMIT = 1 << 20
WELL = {("OK", "closed by both sides")}


@dataclass
class App:
    """The called app. ``part`` handles a connection."""

    address: Address
    part: Callable[[Streams], Awaitable[None]] | None = None
    failures: list[BaseException] = field(default_factory=list)


@dataclass
class World:
    """Where a play runs.

    - ``entry``: the address that the calling app connects to.
    - ``ours``: our sidecars on the path.
    - ``tell_to_go``: drains the present tunnels, in the way of their peer.
    """

    entry: Address
    app: App
    ours: tuple[Node, ...]
    churned: Address | None = None
    tell_to_go: Callable[[], None] = lambda: None
    #: The side that receives a reset as a reset; a peer may turn it into a plain end.
    reset_for_caller: bool = True
    reset_for_called: bool = True
    #: Whether the called app may half-close while it still receives; some peers then end both directions.
    called_half_closes: bool = True

    @asynccontextmanager
    async def calling(self, entry: Address | None = None, *, slow: bool = False) -> AsyncIterator[Streams]:
        to = entry or self.entry
        sock = socket.socket()
        sock.setblocking(False)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        await asyncio.get_running_loop().sock_connect(sock, (to.host, to.port))
        streams = await asyncio.open_connection(sock=sock, limit=1 << 14 if slow else LIMIT)
        try:
            yield streams
        finally:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    def forget(self) -> None:
        """Discard the log lines of earlier connections."""
        for node in self.ours:
            node.lines.seek(0)
            node.lines.truncate()
            while not node.lines._queue.empty():
                node.lines._queue.get_nowait()

    def told(self) -> list[str]:
        return [node.lines.getvalue() for node in self.ours]

    async def ended(self, count: int) -> set[tuple[str, str]]:
        """The outcomes of this many connections, by each of our sidecars."""
        lines = [await node.lines.next() for node in self.ours for _ in range(count)]
        return {(line["outcome"], line["detail"]) for line in lines}


@asynccontextmanager
async def an_app() -> AsyncIterator[App]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert app.part, "no call is expected now"
            await app.part((reader, writer))
        except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
            app.failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=LIMIT, backlog=1024)
    app = App(Address(*server.sockets[0].getsockname()[:2]))
    async with server:
        yield app


def payload(size: int) -> bytes:
    return (os.urandom(min(size, LIMIT)) * (size // LIMIT + 1))[:size]


async def send(streams: Streams, data: bytes, *, ended: bool = True) -> None:
    view = memoryview(data)
    for at in range(0, len(view), LIMIT):
        streams[1].write(view[at : at + LIMIT])
        await streams[1].drain()
    if ended:
        streams[1].write_eof()


async def check(streams: Streams, data: bytes) -> None:
    """Read exactly this, and then the end."""
    await check_first(streams, data)
    assert await streams[0].read(1) == b"", "more than was sent"


async def check_first(streams: Streams, data: bytes) -> None:
    view, at = memoryview(data), 0
    while at < len(view):
        got = await streams[0].read(min(LIMIT, len(view) - at))
        assert got, f"ended after {at} of {len(view)} bytes"
        assert got == view[at : at + len(got)], f"other bytes from {at} on"
        at += len(got)


def reset(streams: Streams) -> None:
    sock = streams[1].get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams[1].transport.abort()


@asynccontextmanager
async def bounded(world: World, part: Callable[[Streams], Awaitable[None]]) -> AsyncIterator[None]:
    """The called app plays this part while the body runs; raises its failure."""
    world.app.part, world.app.failures = part, []
    world.forget()
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except (AssertionError, TimeoutError, OSError) as error:
        told = f"the called app: {world.app.failures}; the sidecars: {world.told()}"
        raise AssertionError(f"{error!r}; {told}") from error
    assert world.app.failures == []


# -- the rows --


async def client_ends_first(world: World, size: int) -> None:
    data, answer = payload(size), payload(size)

    async def called(streams: Streams) -> None:
        await check(streams, data)
        await send(streams, answer)

    async with bounded(world, called):
        async with world.calling() as streams:
            await send(streams, data)
            await check(streams, answer)
        assert await world.ended(1) == WELL


async def server_ends_first(world: World, size: int) -> None:
    """The server closes the connection when everything is sent, as most servers do."""
    answer = payload(size)

    async def called(streams: Streams) -> None:
        assert await streams[0].readexactly(1) == b"?"
        await send(streams, answer)

    async with bounded(world, called):
        async with world.calling() as streams:
            await send(streams, b"?", ended=False)
            await check(streams, answer)
        assert await world.ended(1) == WELL


async def both_half_close(world: World, size: int) -> None:
    data, answer = payload(size), payload(size)

    async def called(streams: Streams) -> None:
        await asyncio.gather(send(streams, answer, ended=world.called_half_closes), check(streams, data))

    async with bounded(world, called):
        async with world.calling() as streams:
            await asyncio.gather(send(streams, data), check(streams, answer))
        assert await world.ended(1) == WELL


async def slow_reader(world: World, size: int) -> None:
    """The client reads nothing before the server is done or blocked, and then a little at a time."""
    answer, moved = payload(size), 0

    async def called(streams: Streams) -> None:
        nonlocal moved
        assert await streams[0].readexactly(1) == b"?"
        for at in range(0, size, 1 << 16):
            streams[1].write(answer[at : at + (1 << 16)])
            await streams[1].drain()
            moved += 1
        streams[1].write_eof()
        moved = -1

    async with bounded(world, called):
        async with world.calling(slow=True) as streams:
            await send(streams, b"?", ended=False)
            last = 0
            while moved >= 0 and (moved != last or not moved):
                last = moved
                await asyncio.sleep(0.1)
            await check(streams, answer)
        assert await world.ended(1) == WELL


async def a_reset(world: World, size: int) -> None:
    """A reset, first by the client, then by the server, after all bytes have arrived: it must not look like an end."""
    data, ended = payload(size), asyncio.Queue[str]()

    async def until_the_end(streams: Streams) -> str:
        try:
            return "end" if await streams[0].read(1) == b"" else "bytes"
        except ConnectionError:
            return "reset"

    async def called(streams: Streams) -> None:
        await check_first(streams, data)
        await send(streams, b"!", ended=False)
        ended.put_nowait(await until_the_end(streams))

    async def rude(streams: Streams) -> None:
        await check_first(streams, data)
        await send(streams, b"!", ended=False)
        assert await streams[0].readexactly(1) == b"!"
        reset(streams)

    async with bounded(world, called):
        async with world.calling() as streams:
            await send(streams, data, ended=False)
            assert await streams[0].readexactly(1) == b"!"
            reset(streams)
        assert await ended.get() in {"reset", "reset" if world.reset_for_called else "end"}
        assert {outcome for outcome, _ in await world.ended(1)} == {"RESET"}
    async with bounded(world, rude):
        async with world.calling() as streams:
            await send(streams, data, ended=False)
            assert await streams[0].readexactly(1) == b"!"
            await send(streams, b"!", ended=False)
            assert await until_the_end(streams) in {"reset", "reset" if world.reset_for_caller else "end"}
        assert {outcome for outcome, _ in await world.ended(1)} == {"RESET"}


async def echo(streams: Streams) -> None:
    while data := await streams[0].read(LIMIT):
        streams[1].write(data)
        await streams[1].drain()
    streams[1].write_eof()


async def a_burst(world: World, size: int) -> None:
    await _many(world, world.entry, BURST, size if size <= LARGEST_OF_MANY else size // BURST)


async def goaway_churn(world: World, size: int) -> None:
    """Ten connections at a time, the next when one has ended."""
    stop = asyncio.Event()

    async def churn() -> None:
        while not stop.is_set():
            world.tell_to_go()
            await asyncio.sleep(0.02)

    churning = asyncio.create_task(churn())
    try:
        await _many(world, world.churned or world.entry, CHURN, size if size <= LARGEST_OF_MANY else size // CHURN, 10)
    finally:
        stop.set()
        await churning


async def _many(world: World, entry: Address, count: int, size: int, at_once: int = BURST) -> None:
    data, turns = payload(size), asyncio.Semaphore(at_once)

    async def call() -> None:
        async with turns, world.calling(entry) as streams:
            await asyncio.gather(send(streams, data), check(streams, data))

    async with bounded(world, echo):
        await asyncio.gather(*(call() for _ in range(count)))
        assert await world.ended(count) == WELL


PLAYS = {
    "client ends first": client_ends_first,
    "server ends first": server_ends_first,
    "both half-close": both_half_close,
    "slow reader": slow_reader,
    "reset": a_reset,
    "burst of 300": a_burst,
    "GOAWAY churn": goaway_churn,
}
