"""Idle and slow clients of HTTP: what is kept for one is bounded, and the relay's rule of idleness ends it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from meshtls.address import Address
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.http.detect import detect
from meshtls.sidecar.http.relay import HttpRelay
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.settings import Protocol
from meshtls.wire.http import Answer, Forward, HttpRequest, Refuse, Ruling
from meshtls.wire.http1.filter import Http1Filter
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import connected, patient, side_a
from tests.support.relaying import plain_end
from tests.support.waiting import SECONDS, SHORT_IDLE, until

ANYBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: default}
spec: {rules: [{}]}
"""
GET = b"GET /ok HTTP/1.1\r\nHost: b\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n"
#: Beyond what sockets and the relay keep, by far.
MUCH = 1 << 26


@dataclass
class Between:
    """A relay between two socket pairs. ``client`` and ``app`` are the test's ends."""

    sockets: list[socket.socket]
    ruling: Callable[[HttpRequest], Ruling] = Forward
    ended: list[Exception | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client, near, far, self.app = self.sockets
        reactor = running_reactor()
        self.relay = HttpRelay(
            plain_end(near, "the client"),
            Flow(),
            reactor.poller,
            lambda on_change: Http1Filter(self.judge, on_change),
            dial=lambda: self.relay.connected(plain_end(far, "the app")),
            on_end=self.ended.append,
            now=reactor.loop.time,
        )
        self.relay.start()

    def judge(self, http: HttpRequest, answer: Answer) -> None:
        answer(self.ruling(http))

    async def moved(self) -> None:
        await until(lambda: self.relay.last != 0.0)
        self.relay.last = 0.0


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Two socket pairs, which take little that is not read."""
    made = [sock for _ in range(2) for sock in socket.socketpair()]
    for one in made:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
    yield made
    for one in made:
        one.close()


async def sent_until_full(sock: socket.socket, data: bytes, most: int) -> int:
    """Send until nothing is taken any more, in a thousand rounds of the loop."""
    sent = refused = 0
    while refused < 1000 and sent < most:
        try:
            sent += sock.send(data)
            refused = 0
        except BlockingIOError:
            refused += 1
            await asyncio.sleep(0)
    return sent


async def test_an_app_whose_client_does_not_read_is_not_read_either_and_the_relay_is_idle(
    sockets: list[socket.socket],
) -> None:
    between = Between(sockets)
    between.client.send(GET)
    assert (await asyncio.get_running_loop().sock_recv(between.app, 1000)).startswith(b"GET /ok ")
    between.app.send(ENDLESS)
    assert await sent_until_full(between.app, bytes(1 << 13), MUCH) < 1 << 22
    between.relay.last = 0.0
    for _ in range(1000):
        await asyncio.sleep(0)
    assert between.relay.last == 0.0
    between.relay.end_idle(60)
    assert [str(error) for error in between.ended] == ["no byte moved for 60 s"]


@pytest.mark.parametrize("status", [403, 414])
async def test_a_client_that_sends_requests_and_reads_no_refusal_is_not_read_for_ever(
    sockets: list[socket.socket], status: int
) -> None:
    between = Between(sockets, ruling=lambda _: Refuse(status, "no\n"))
    assert await sent_until_full(between.client, GET * 100, MUCH) < 1 << 22
    assert not between.relay.over
    between.relay.end(None)


async def test_a_client_that_reads_a_little_at_a_time_keeps_its_connection_from_being_idle(
    sockets: list[socket.socket],
) -> None:
    between = Between(sockets)
    loop = asyncio.get_running_loop()
    between.client.send(GET)
    await loop.sock_recv(between.app, 1000)
    between.app.send(ENDLESS)
    for _ in range(3):
        await sent_until_full(between.app, bytes(1 << 13), MUCH)
        assert between.relay._client.unsent, "it has not taken all"
        between.relay.last = 0.0
        async with asyncio.timeout(SECONDS):
            while not between.relay.last:
                await loop.sock_recv(between.client, 1 << 10)
    between.relay.end(None)


async def test_a_long_answer_that_makes_progress_is_not_idle(sockets: list[socket.socket]) -> None:
    between = Between(sockets)
    loop = asyncio.get_running_loop()
    between.client.send(GET)
    await loop.sock_recv(between.app, 1000)
    between.app.send(ENDLESS)
    assert await loop.sock_recv(between.client, 1000) == ENDLESS
    between.relay.last = 0.0
    for _ in range(3):
        between.app.send(b".")
        assert await loop.sock_recv(between.client, 10) == b"."
        await between.moved()
    between.relay.end(None)


async def test_a_silent_client_ends_detection_at_the_idle_timeout(sockets: list[socket.socket]) -> None:
    """It does not get another one in which to send its first request."""
    with pytest.raises(EndedError, match="no byte moved for 0.05 s") as ended:
        await detect(plain_end(sockets[0], "the client"), running_reactor(), idle=0.05)
    assert ended.value.outcome is Outcome.IDLE_TIMEOUT


# -- through real sidecars --

IDLE = patient(idle_timeout=SHORT_IDLE, detect_timeout=SECONDS)


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("requests", [0, 1])
async def test_an_idle_keep_alive_connection_ends_at_the_idle_timeout(requests: int, tunnel: bool) -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ANYBODY, protocol=Protocol.HTTP, limits=IDLE, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as streams,
        asyncio.timeout(SECONDS),
    ):
        if requests:
            streams[1].write(GET)
            assert (await streams[0].readuntil(b'"body": ""}'))[:12] == b"HTTP/1.1 200"
        with contextlib.suppress(ConnectionResetError):
            assert await streams[0].read() == b""
        while "method" in (line := await b.lines.next()):
            pass
        assert (line["outcome"], line["detail"]) == ("IDLE_TIMEOUT", f"no byte moved for {SHORT_IDLE} s")


@contextlib.asynccontextmanager
async def an_endless_app() -> AsyncIterator[tuple[asyncio.Server, list[int]]]:
    """Answers with bytes without end; counts those that it could write."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ENDLESS)
            while written[0] < 8 * MUCH:
                writer.write(bytes(1 << 16))
                await writer.drain()
                written[0] += 1 << 16
        writer.close()

    written = [0]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server, written


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_client_that_never_reads_is_ended_as_idle_and_little_was_read_for_it(tunnel: bool) -> None:
    async with (
        an_endless_app() as (server, written),
        governed(
            Address(*server.sockets[0].getsockname()[:2]), ANYBODY, protocol=Protocol.HTTP, limits=IDLE, tunnel=tunnel
        ) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        with socket.create_connection((a.outbound.host, a.outbound.port)) as client:
            client.send(GET)
            while "method" in (line := await b.lines.next()):
                pass
        assert line["outcome"] == "IDLE_TIMEOUT"
        assert written[0] < MUCH
