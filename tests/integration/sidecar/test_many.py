"""Two sidecars as processes of their own: what many connections cost them, and what a reader that stops costs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.sidecar.descriptors import make_room
from tests.integration.cli.processes import Process, started
from tests.integration.sidecar.mesh import Streams, connected, echoed
from tests.support.ports import free_ports
from tests.support.waiting import until

WEB = "spiffe://example.org/web"
#: A fleet of 9,800 takes a minute, and twice as many descriptors for each of the three processes.
IDLE = int(os.environ.get("MESHTLS_TEST_IDLE", "400"))
WAVE = 100
STALLED = 10
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """The processes, and the address that leads through both to the app."""

    a: Process
    b: Process
    entry: Address


@contextlib.asynccontextmanager
async def pair(directory: Path, app: Address) -> AsyncIterator[Pair]:
    entry, mesh = free_ports(2)
    identity = f"identity: {{workload_api: unix://{directory / 'ca.sock'}}}\n"
    common = f"spiffe_id: {WEB}\n{identity}limits: {{connections: {IDLE + 4}, unproven: {WAVE + 8}}}\n"
    files = {
        "ca": f"trust_domain: example.org\nsocket_path: {directory / 'ca.sock'}\n"
        f"identities: [{{uid: {os.getuid()}, spiffe_id: {WEB}}}]\n",
        "a": f"name: a\n{common}outbound:\n"
        f'  - {{listen: "{LOOPBACK}:{entry}", to: "{LOOPBACK}:{mesh}", peer: "{WEB}"}}\n',
        "b": f'name: b\n{common}inbound:\n  - {{listen: "{LOOPBACK}:{mesh}", app: "{app}", allow: ["{WEB}"]}}\n',
    }
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    with contextlib.ExitStack() as stack:
        verbs = {"ca": ("ca", "serve"), "a": ("sidecar", "run"), "b": ("sidecar", "run")}
        up = {}
        for name, verb in verbs.items():
            up[name] = stack.enter_context(started(*verb, "--config", directory / f"{name}.yaml"))
            up[name].line("serving")
        yield Pair(up["a"], up["b"], Address(LOOPBACK, entry))


@contextlib.asynccontextmanager
async def serving(reads: bool) -> AsyncIterator[Address]:
    """An app that echoes, or one that takes connections and reads nothing."""
    over = asyncio.Event()
    alive: set[asyncio.StreamWriter] = set()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        alive.add(writer)
        with contextlib.suppress(ConnectionError):
            if not reads:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
                await over.wait()
            while reads and (data := await reader.read(1 << 16)):
                writer.write(data)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        alive.discard(writer)

    server = await asyncio.start_server(app, LOOPBACK, 0, backlog=4096)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])
        over.set()
        await until(lambda: not alive)


@pytest.mark.timeout(300)
async def test_idle_connections_by_the_hundred_cost_little_and_are_all_alive(tmp_path: Path) -> None:
    make_room(IDLE)  # a client's and an app's socket for each
    async with serving(reads=True) as app, pair(tmp_path, app) as both, contextlib.AsyncExitStack() as stack:
        async with connected(both.entry) as streams:
            assert await echoed(streams) == b"ping"
        before = memory_kib(both)
        fleet: list[Streams] = []
        while len(fleet) < IDLE:  # in waves: a storm is another test's
            wave = [await stack.enter_async_context(connected(both.entry)) for _ in range(min(WAVE, IDLE - len(fleet)))]
            await all_echo(wave)
            fleet += wave
        grown = (memory_kib(both) - before) / IDLE
        await all_echo(fleet)
    # About 60 with OpenSSL 3.0; one of 3.5 also keeps its post-quantum key share. With asyncio's own TLS it is 600.
    assert grown < 150, f"{grown:.1f} KiB for a connection, both sides together"


async def all_echo(fleet: list[Streams]) -> None:
    for start in range(0, len(fleet), 100):
        assert set(await asyncio.gather(*map(echoed, fleet[start : start + 100]))) == {b"ping"}


async def test_readers_that_stop_cost_no_more_than_the_buffers(tmp_path: Path) -> None:
    block = bytes(1 << 16)
    async with serving(reads=False) as app, pair(tmp_path, app) as both, contextlib.AsyncExitStack() as stack:
        before = memory_kib(both)
        fleet = [await stack.enter_async_context(connected(both.entry)) for _ in range(STALLED)]
        for _, writer in fleet:
            writer.transport.set_write_buffer_limits(1 << 16)
        # What is sent now would be hundreds of MiB, if anybody kept it.
        poured = await asyncio.gather(*(pour(writer, block, 1 << 26) for _, writer in fleet))
        grown = memory_kib(both) - before
        for _, writer in fleet:
            writer.transport.abort()
    assert max(poured) < 1 << 26, "the flood was not held up"
    # A connection and a side: two rests of at most one receive, 256 KiB, with its TLS. All else is the kernel's.
    assert grown < STALLED * 2 * 2 * 300 + 2048, f"{grown} KiB"


async def pour(writer: asyncio.StreamWriter, block: bytes, most: int) -> int:
    """Write until no more is taken for a while; how much it was. That a flood stands still can only be timed."""
    size, deadline = 0, time.monotonic() + 20
    with contextlib.suppress(TimeoutError):
        while size < most and time.monotonic() < deadline:
            writer.write(block)
            size += len(block)
            await asyncio.wait_for(writer.drain(), 1.0)
    return size


def memory_kib(both: Pair) -> int:
    """Memory that the two processes have for themselves."""
    return sum(_private_kib(process.popen.pid) for process in (both.a, both.b))


def _private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE))
