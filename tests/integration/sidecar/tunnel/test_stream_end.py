"""A stream as an end of the relay beside any other end: byte-exact, within its windows, and told of what broke."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.http.detect import detect
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.tunnel.client import TunnelClient
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import Session
from meshtls.sidecar.tunnel.stream_end import StreamEnd
from meshtls.tls.engine import TlsEngine
from meshtls.wire.http1.start import HttpStart
from meshtls.wire.http2.frames import ErrorCode
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream
from tests.integration.sidecar.mesh import as_a, as_b
from tests.support.relaying import plain_end, tls_end
from tests.support.tls import Ends, engine_of, shake
from tests.support.waiting import SECONDS, until

#: Less than what one receive takes, and no multiple of anything.
WINDOW = 70_001


def engines() -> tuple[TlsEngine, TlsEngine]:
    client, server = engine_of(as_a(), server_side=False), engine_of(as_b(), server_side=True)
    assert shake(client, server) == Ends()
    return client, server


class Server(Session):
    """Joins a stream to ``app`` once it is told to."""

    app: socket.socket
    end: StreamEnd | None = None
    ended: list[Exception | None]

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        self.ended = []
        self.end = self._streams[stream.number] = StreamEnd(
            self, stream, lambda _, error: self.ended.append(error), remembers=False
        )

    def join(self) -> None:
        assert self.end is not None
        self.http.accept(self.end.stream)
        self.end.join(plain_end(self.app, "the app"), Flow(), app_opened=False)
        self.flush_soon()


class Tunnel:
    """A client over TLS, a tunnel, and an app. ``client`` and ``app`` are the test's ends."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.client, near, one, other, far, self.app = sockets
        self.tls, own = engines()
        ours, theirs = engines()
        self.memory = ReceiveMemory()
        common = TunnelBounds(window=WINDOW), self.memory, running_reactor()
        self.server = Server(
            tls_end(other, theirs, "a"), *common, client=False, idle_timeout=60, on_end=lambda error: None
        )
        self.server.app = far
        self.session = TunnelClient(
            tls_end(one, ours, "b"),
            *common,
            b"b:1",
            expected_streams=1,
            idle_timeout=60,
            answer_timeout=60,
            on_end=lambda error: None,
        )
        self.flow, self.ended = Flow(), list[Exception | None]()
        self.server.start()
        self.session.start()
        self.end = self.session.open(lambda _, error: self.ended.append(error))
        self.end.join(tls_end(near, own, "the client"), self.flow, app_opened=True)

    async def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for at in range(0, len(data), 300_000):
            await loop.sock_sendall(self.client, self.tls.seal(data[at : at + 300_000]))
        self.tls.close_write()
        await loop.sock_sendall(self.client, self.tls.outgoing())

    async def received(self) -> bytes:
        data = bytearray()
        while not self.tls.peer_closed:
            self.tls.feed(await asyncio.get_running_loop().sock_recv(self.client, 1 << 16))
            data += self.tls.read()
        return bytes(data)

    def close(self) -> None:
        for session in (self.session, self.server):
            session.break_off(EndedError(Outcome.RESET, "the test is over"))


@pytest.fixture
async def tunnel() -> AsyncIterator[Tunnel]:
    sockets = [sock for _ in range(3) for sock in socket.socketpair()]
    for sock in sockets:
        sock.setblocking(False)
    through = Tunnel(sockets)
    yield through
    through.close()
    for sock in sockets:
        sock.close()


async def all_of(sock: socket.socket) -> bytes:
    data = bytearray()
    while chunk := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
        data += chunk
    return bytes(data)


async def test_a_stream_is_relayed_to_tls_byte_for_byte_though_a_receive_is_larger_than_its_window(
    tunnel: Tunnel,
) -> None:
    there, back = os.urandom(1_500_000), os.urandom(1_200_000)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        sending = group.create_task(tunnel.send(there))
        await until(lambda: tunnel.server.end is not None)
        tunnel.server.join()
        assert await all_of(tunnel.app) == there
        await sending
        receiving = group.create_task(tunnel.received())
        await asyncio.get_running_loop().sock_sendall(tunnel.app, back)
        tunnel.app.shutdown(socket.SHUT_WR)
        assert await receiving == back
    await until(lambda: bool(tunnel.ended) and bool(tunnel.server.ended))
    assert (tunnel.ended, tunnel.server.ended) == ([None], [None])
    assert (tunnel.flow.bytes_in, tunnel.flow.bytes_out) == (len(there), len(back))
    assert tunnel.memory.kept == 0
    assert tunnel.session.empty
    assert tunnel.server.empty


async def test_bytes_that_arrive_before_the_app_is_connected_are_kept_within_the_window_and_go_first(
    tunnel: Tunnel,
) -> None:
    data = os.urandom(500_000)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        sending = group.create_task(tunnel.send(data))
        # Before CONNECT is answered no more is sent than is remembered.
        await until(lambda: tunnel.server.end is not None and tunnel.server.end.kept == min(WINDOW, 1 << 16))
        assert tunnel.memory.kept == min(WINDOW, 1 << 16)
        tunnel.server.join()
        assert await all_of(tunnel.app) == data
        await sending
    assert tunnel.memory.kept == 0


@pytest.mark.parametrize("joined", [True, False], ids=["with its app", "before its app is there"])
async def test_a_stream_that_is_broken_off_ends_once_at_both_sides_and_keeps_nothing(
    tunnel: Tunnel, joined: bool
) -> None:
    async with asyncio.timeout(SECONDS):
        tunnel.client.send(tunnel.tls.seal(b"request"))
        await until(lambda: tunnel.server.end is not None and tunnel.server.end.kept == 7)
        if joined:
            tunnel.server.join()
            assert await asyncio.get_running_loop().sock_recv(tunnel.app, 100) == b"request"
        why = EndedError(Outcome.POLICY_DENIED, "the policy has changed")
        assert tunnel.server.end is not None
        tunnel.server.end.break_off(why)
        tunnel.server.end.break_off(why)
        assert tunnel.server.ended == [why]
        assert tunnel.memory.kept == 0
        await until(lambda: bool(tunnel.ended))
    assert [str(error) for error in tunnel.ended] == [f"the peer reset the stream: {ErrorCode.CANCEL.name}"]
    assert tunnel.session.empty
    assert tunnel.server.empty


async def test_bytes_that_come_while_detection_ends_are_kept(tunnel: Tunnel) -> None:
    """Two frames of one receive: the first decides, and the second comes before whoever waits has run."""
    await until(lambda: tunnel.server.end is not None)
    end = tunnel.server.end
    assert end is not None
    detection = asyncio.create_task(detect(end, running_reactor(), idle=SECONDS))
    await asyncio.sleep(0)
    end.deliver(b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 9\r\n\r\n", False)
    end.deliver(b"the ", False)
    end.deliver(b"body!", False)
    assert await detection is HttpStart.HTTP1
    assert bytes(end.first()).endswith(b"\r\n\r\nthe body!")


async def test_a_stream_that_is_lost_while_detection_ends_is_known_to_be_lost(tunnel: Tunnel) -> None:
    """Two frames of one receive: a whole request, and a reset, which the stream tells only once."""
    await until(lambda: tunnel.server.end is not None)
    end = tunnel.server.end
    assert end is not None
    detection = asyncio.create_task(detect(end, running_reactor(), idle=SECONDS))
    await asyncio.sleep(0)
    end.deliver(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", False)
    end.lost(EndedError(Outcome.RESET, "the peer reset the stream: CANCEL"))
    with pytest.raises(EndedError, match="^the peer reset the stream: CANCEL$"):
        await detection
