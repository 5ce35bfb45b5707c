"""Clients of the dashboard that connect and do nothing: they are dropped, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Message

from meshtls.address import Address
from meshtls.admin.asking import Interface
from meshtls.dashboard.app import MOST_STREAMS, dashboard_app
from meshtls.dashboard.collect import Collector
from meshtls.dashboard.protocol import MOST_CONNECTIONS, BoundedProtocol
from meshtls.dashboard.serving import serving_dashboard
from tests.support.admin import ask
from tests.support.waiting import SECONDS, until

WHERE = Address("127.0.0.1", 0)
CLOSE = b"\r\nConnection: close\r\n"


def a_collector(directory: Path) -> Collector:
    return Collector([Interface(directory / "none.sock")], interval=0.1)


def request(address: Address, path: str = "/api/about") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()


async def answered(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has had an answer, the end of which was the beginning of a short time for the next head."""
    monkeypatch.setattr(BoundedProtocol, "HEAD_SECONDS", SECONDS)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for seconds in (0.5, SECONDS):
        writer.write(request(address))
        await reader.readuntil(b'"may_act":false}')
        monkeypatch.setattr(BoundedProtocol, "HEAD_SECONDS", seconds)
    return reader, writer


def put_forward(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The event loop's clock: what was to happen in so many seconds happens now."""
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + seconds)


@pytest.mark.parametrize(
    "sent",
    ["", "GET /api/about HTTP/1.1\r\n", "whole", "whole, and a part"],
)
async def test_a_connection_without_a_whole_request_head_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setattr(BoundedProtocol, "HEAD_SECONDS", 0.5)
    async with serving_dashboard(a_collector(tmp_path), WHERE) as address, asyncio.timeout(SECONDS):
        if sent.startswith("whole"):
            reader, writer = await answered(address, monkeypatch)
        else:
            reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write((sent.removeprefix("whole") and "GET / HTTP/1.1\r\n").encode())
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_bytes_that_make_no_head_keep_no_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_dashboard(a_collector(tmp_path), WHERE) as address, asyncio.timeout(SECONDS):
        reader, writer = await answered(address, monkeypatch)
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"X-More: 1\r\n")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await reader.read(1)
        writer.close()


async def test_a_stream_of_events_outlives_the_time_for_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = a_collector(tmp_path)
    async with serving_dashboard(collector, WHERE) as address, asyncio.timeout(SECONDS):
        idle_reader, idle_writer = await asyncio.open_connection(address.host, address.port)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request(address, "/api/changes"))
        await reader.readuntil(b"data: ")
        put_forward(monkeypatch, BoundedProtocol.HEAD_SECONDS + 1)
        with contextlib.suppress(ConnectionError):
            assert await idle_reader.read() == b""  # its time is over, and it began before the stream did
        for number in range(2):
            collector.model.failed(next(iter(collector.model.processes)), f"changed {number}")
            await reader.readuntil(b"data: ")
        idle_writer.close()
        writer.close()


async def test_connections_that_ask_nothing_shut_nobody_out(tmp_path: Path) -> None:
    async with serving_dashboard(a_collector(tmp_path), WHERE) as address, asyncio.timeout(SECONDS):
        stream, stream_writer = await asyncio.open_connection(address.host, address.port)
        stream_writer.write(request(address, "/api/changes"))
        await stream.readuntil(b"data: ")
        silent = [await asyncio.open_connection(address.host, address.port) for _ in range(2 * MOST_CONNECTIONS)]
        assert (await ask(address, "/api/about", Connection="close")).status == 200
        # The oldest silent one made place, and the stream, which is older, did not.
        with contextlib.suppress(ConnectionError):
            assert await silent[0][0].read() == b""
        assert not silent[-1][0].at_eof()
        assert not stream.at_eof()
        for _, writer in (*silent, (stream, stream_writer)):
            writer.close()


def followed_by(event: asyncio.Event, real: Callable[..., None]) -> Callable[..., None]:
    """The method of a protocol, after which the event is set."""

    def called(self: BoundedProtocol, *arguments: object) -> None:
        real(self, *arguments)
        event.set()

    return called


@pytest.mark.parametrize("takes", [False, True])
async def test_a_client_that_does_not_take_its_answer_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool
) -> None:
    paused, lost = asyncio.Event(), asyncio.Event()
    for name, event in (("pause_writing", paused), ("connection_lost", lost)):
        monkeypatch.setattr(BoundedProtocol, name, followed_by(event, getattr(BoundedProtocol, name)))
    collector, loop = a_collector(tmp_path), asyncio.get_running_loop()
    collector.model.dry_runs.take({"shadow": ["x" * (16 << 20)]})  # more than the buffers of a socket have
    async with serving_dashboard(collector, WHERE) as address, asyncio.timeout(4 * SECONDS):
        with socket.create_connection((address.host, address.port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, request(address, "/api/policies").replace(b"\r\n", CLOSE, 1))
            if not takes:
                await paused.wait()
                put_forward(monkeypatch, BoundedProtocol.SEND_SECONDS + 1)
                await lost.wait()
            count = 0
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(client, 1 << 20):
                    count += len(part)
    assert (count > 16 << 20) == takes


async def test_streams_are_counted_when_they_are_admitted_and_no_longer_when_they_end(tmp_path: Path) -> None:
    bound = Address("127.0.0.1", 8080)
    app = dashboard_app(a_collector(tmp_path), bound)
    statuses: list[int] = []
    never = asyncio.Event()

    async def receive() -> Message:
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            if message["status"] == 200:
                await never.wait()  # a client that takes no byte: no event is made for it

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/changes",
        "raw_path": b"/api/changes",
        "query_string": b"",
        "headers": [(b"host", str(bound).encode())],
    }
    async with asyncio.timeout(SECONDS):
        asked = [asyncio.create_task(app(dict(scope), receive, send)) for _ in range(MOST_STREAMS + 1)]
        await until(lambda: len(statuses) == MOST_STREAMS + 1)
        assert sorted(statuses) == [200] * MOST_STREAMS + [503]
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)
        again = asyncio.create_task(app(dict(scope), receive, send))
        await until(lambda: len(statuses) == MOST_STREAMS + 2)
        assert statuses[-1] == 200
        again.cancel()
        await asyncio.wait([again])
