"""A reader that is slower than the buffers in between is not idle, alone and in a tunnel; one that stops is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.relay import Relay
from meshtls.sidecar.tunnel.client import TunnelClient
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import Session
from meshtls.sidecar.tunnel.stream_end import StreamEnd
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream
from tests.integration.sidecar.mesh import as_a, as_b
from tests.support.relaying import plain_end, tls_end
from tests.support.tls import Ends, engine_of, shake
from tests.support.waiting import SECONDS, until

IDLE = 60.0


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Three socket pairs: 0 and 1, 2 and 3, 4 and 5 are joined. None but the last takes much that is not read."""
    made = [sock for _ in range(3) for sock in socket.socketpair()]
    for one in made:
        one.setblocking(False)
    for one in made[:-1]:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
    yield made
    for one in made:
        one.close()


async def test_a_slow_reader_keeps_its_relay_from_being_idle(sockets: list[socket.socket]) -> None:
    app = plain_end(sockets[2], "the app")
    ended: list[Exception | None] = []
    client, reactor = plain_end(sockets[1], "the client", bytes(1 << 18)), running_reactor()
    joined = Relay(client, app, Flow(), reactor.poller, ended.append, reactor.loop.time())
    joined.start()
    for _ in range(3):
        joined.last = 0.0
        async with asyncio.timeout(SECONDS):
            while not joined.last:
                await asyncio.get_running_loop().sock_recv(sockets[3], 1 << 10)
        assert app.unsent, "it has not taken all"
    joined.end(None)
    assert ended == [None]


class OwnTime:
    """The time of a session, and of its streams' relays by their poller."""

    def __init__(self, poller: Poller) -> None:
        self.seconds = 1000.0
        self.watch, self.forget, self.defer = poller.watch, poller.forget, poller.defer

    @property
    def now(self) -> float:
        return self.seconds


async def test_a_relay_that_begins_with_bytes_was_not_idle_since_the_poller_s_last_wake_up(
    sockets: list[socket.socket],
) -> None:
    poller = OwnTime(running_reactor().poller)
    client, app = plain_end(sockets[1], "the client", b"first"), plain_end(sockets[2], "the app")
    joined = Relay(client, app, Flow(), poller, lambda error: None, poller.now + IDLE)
    joined.start()
    assert sockets[3].recv(9) == b"first"
    assert joined.last == poller.now + IDLE
    joined.end(None)


class Serving(Session):
    """Joins each stream to ``app``."""

    app: socket.socket
    flow: Flow

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        end = self._streams[stream.number] = StreamEnd(self, stream, lambda *how: None, remembers=False)
        self.http.accept(stream)
        self.flow = Flow()
        end.join(plain_end(self.app, "the app"), self.flow, app_opened=False)


class Through:
    """A reader, a tunnel whose time is ours, and an app. ``near`` and ``far`` are the two ends of the stream."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.reader, own, self.wire, server_sock, other, self.app = sockets
        client, server = engine_of(as_a(), server_side=False), engine_of(as_b(), server_side=True)
        assert shake(client, server) == Ends()
        self.peer_is_away = False
        self.time, self.how = OwnTime(running_reactor().poller), list[Exception | None]()
        common = TunnelBounds(window=1 << 18), ReceiveMemory(), running_reactor()
        end = tls_end(server_sock, server, "a")
        self.server = Serving(end, *common, client=False, idle_timeout=IDLE, on_end=self.how.append)
        self.client = TunnelClient(
            tls_end(self.wire, client, "b"),
            *common,
            b"b:1",
            expected_streams=1,
            idle_timeout=IDLE,
            answer_timeout=IDLE,
            on_end=self.how.append,
        )
        self.server.app = other
        for session in (self.server, self.client):
            session.poller, session.now = self.time, lambda: self.time.seconds
        self.server.start()
        self.client.start()
        self.near = self.client.open(lambda _, error: self.how.append(error))
        self.near.join(plain_end(own, "the reader"), Flow(), app_opened=True)

    async def opened(self) -> None:
        await until(lambda: bool(self.server._streams))
        (self.far,) = self.server._streams.values()
        self.flow = self.server.flow

    async def fill(self) -> None:
        """Let the app write until the stream's window is used up, or the tunnel's peer takes no more."""
        while self.far not in self.server.waiting or self.server.http.room(self.far.stream) > 0:
            if self.far in self.server.waiting and self.peer_is_away:
                return
            await self.write()

    def send_peer_away(self) -> None:
        """From now on nobody reads the tunnel at this end."""
        self.peer_is_away = True
        self.client.poller.watch(self.wire, None, None)
        self.app.send(bytes(1 << 17))

    async def write(self) -> None:
        try:
            self.app.send(bytes(1 << 13))
        except BlockingIOError:
            await asyncio.sleep(0)

    async def read_a_little(self) -> None:
        """So much that the near end could send some of what it kept."""
        while self.near.is_idle_since(self.time.seconds):
            await asyncio.get_running_loop().sock_recv(self.reader, 1 << 10)

    def tick(self) -> None:
        for session in (self.client, self.server):
            session._tick()

    def close(self) -> None:
        for session in (self.client, self.server):
            session.break_off(EndedError(Outcome.RESET, "the test is over"))


async def test_a_reader_slower_than_the_window_keeps_its_stream_from_being_idle_at_both_ends(
    sockets: list[socket.socket],
) -> None:
    through = Through(sockets)
    async with asyncio.timeout(SECONDS):
        await through.opened()
        await through.fill()
        for _ in range(4):
            through.time.seconds += IDLE * 0.75
            await through.read_a_little()
            assert through.near.kept, "it has not taken all"
            through.client._tick()
            await until(lambda: not through.far.is_idle_since(through.time.seconds))
            through.tick()
            await through.fill()
    assert through.how == []
    through.close()


async def test_a_reader_with_bytes_left_before_the_end_keeps_the_other_side_from_being_idle(
    sockets: list[socket.socket],
) -> None:
    through = Through(sockets)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SECONDS):
        await through.opened()
        await loop.sock_sendall(through.app, bytes(100_000))
        through.app.shutdown(socket.SHUT_WR)
        await until(lambda: through.near.ended)
        through.time.seconds += IDLE * 0.75
        await through.read_a_little()
        through.client._tick()
        await until(lambda: not through.far.is_idle_since(through.time.seconds))
    assert through.how == []
    through.close()


async def test_a_tunnel_s_peer_that_takes_little_at_a_time_leaves_no_stream_idle(sockets: list[socket.socket]) -> None:
    through = Through(sockets)
    async with asyncio.timeout(SECONDS):
        await through.opened()
        through.send_peer_away()
        await through.fill()
        sent = through.flow.bytes_out
        through.time.seconds += IDLE * 0.75
        while through.far.is_idle_since(through.time.seconds):
            await asyncio.get_running_loop().sock_recv(through.wire, 1 << 10)
    assert through.flow.bytes_out == sent, "the peer has not taken all, and nothing more was read"
    through.close()


async def test_a_reader_that_stops_leaves_its_stream_idle(sockets: list[socket.socket]) -> None:
    through = Through(sockets)
    async with asyncio.timeout(SECONDS):
        await through.opened()
        await through.fill()
    for _ in range(4):
        through.time.seconds += IDLE / 4
        through.tick()
    assert through.how == []
    through.time.seconds += 1
    through.tick()
    assert [str(error) for error in through.how] == ["no byte moved for 60 s"]
    through.close()
