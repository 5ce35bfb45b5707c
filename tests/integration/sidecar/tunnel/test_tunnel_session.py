"""A tunnel's session from its start to its end: its state, what ``repr`` says of it, and what its peer receives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import Session
from meshtls.sidecar.tunnel.states import NEXT, SessionState, Step
from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, frame, goaway_frame
from meshtls.wire.http2.settings import TunnelBounds
from tests.integration.sidecar.mesh import as_a, as_b
from tests.support.relaying import tls_end
from tests.support.tls import Ends, engine_of, shake
from tests.support.waiting import SECONDS, until

OPEN, FINISHING, LINGERING, OVER = SessionState
EMPTIED, FLUSHED, CLOSED = Step

TABLE = {
    (OPEN, EMPTIED): FINISHING,
    (OPEN, FLUSHED): None,
    (OPEN, CLOSED): OVER,
    (FINISHING, EMPTIED): None,
    (FINISHING, FLUSHED): LINGERING,
    (FINISHING, CLOSED): OVER,
    (LINGERING, EMPTIED): None,
    (LINGERING, FLUSHED): None,
    (LINGERING, CLOSED): OVER,
    (OVER, EMPTIED): None,
    (OVER, FLUSHED): None,
    (OVER, CLOSED): None,
}


def test_a_session_takes_the_steps_of_this_table_and_no_others() -> None:
    assert {(state, step): NEXT[state].get(step) for state in SessionState for step in Step} == TABLE


class Served:
    """A server's session over a socket whose other end, the peer, the test has in its hands."""

    def __init__(self, ours: socket.socket, peer: socket.socket) -> None:
        self.tls, server = engine_of(as_a(), server_side=False), engine_of(as_b(), server_side=True)
        assert shake(self.tls, server) == Ends()
        self.peer = peer
        self.ended: list[Exception | None] = []
        self.session = Session(
            tls_end(ours, server, "a"),
            TunnelBounds(),
            ReceiveMemory(),
            running_reactor(),
            client=False,
            idle_timeout=60,
            on_end=self.ended.append,
        )
        self.session.start()
        self.send(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))

    def fill(self) -> None:
        """Let the peer's PINGs be answered until its socket takes no more of the answers."""
        while not self.session.blocked:
            self.send(frame(Kind.PING, 0, 0, bytes(8)) * 500)
            self.session._on_readable()
            self.session._flush_now()

    def send(self, data: bytes) -> None:
        self.peer.send(self.tls.seal(data))

    async def received(self) -> bytes:
        """All until the session ends its side of TCP."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            while data := await loop.sock_recv(self.peer, 1 << 16):
                self.tls.feed(data)
        return self.tls.read()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    ours, peer = socket.socketpair()
    for sock in (ours, peer):
        sock.setblocking(False)
    with ours, peer:
        served = Served(ours, peer)
        yield served
        served.session.break_off(EndedError(Outcome.RESET, "the test is over"))


async def test_a_session_lingers_until_its_peer_has_ended_too(served: Served) -> None:
    session = served.session
    assert (session.state, session.empty) == (OPEN, True)
    assert repr(session) == "<Session OPEN, HTTP/2 OPEN [0 streams]>"
    served.send(goaway_frame(ErrorCode.NO_ERROR, 0))
    said = await served.received()
    assert served.tls.peer_closed, "close_notify, and not only the end of TCP"
    assert said.endswith(frame(Kind.SETTINGS, 1, 0, b"")), "nothing was lost on the way"
    assert session.state is LINGERING
    assert repr(session) == "<Session LINGERING, HTTP/2 LEAVING [0 streams]>"
    assert served.ended == []
    served.send(b"a frame that nobody waits for")
    await asyncio.sleep(0)
    served.peer.shutdown(socket.SHUT_WR)
    await until(lambda: session.over)
    assert served.ended == [None]


async def test_a_session_is_finishing_as_long_as_its_peer_does_not_take_the_end(served: Served) -> None:
    session = served.session
    served.fill()
    served.send(goaway_frame(ErrorCode.NO_ERROR, 0))
    served.tls.close_write()
    served.peer.send(served.tls.outgoing())
    await until(lambda: session.state is FINISHING)
    assert session.blocked
    assert frame(Kind.PING, 1, 0, bytes(8)) in await served.received()
    assert served.tls.peer_closed
    assert session.state is LINGERING


@pytest.mark.parametrize("state", [OPEN, FINISHING, LINGERING])
async def test_a_session_that_is_broken_off_is_over_in_each_state(served: Served, state: SessionState) -> None:
    session = served.session
    if state is FINISHING:
        served.fill()
    if state is not OPEN:
        served.send(goaway_frame(ErrorCode.NO_ERROR, 0))
        served.tls.close_write()
        served.peer.send(served.tls.outgoing())
    await until(lambda: session.state is state)
    why = EndedError(Outcome.DRAINED, "the sidecar is stopping")
    session.break_off(why)
    assert session.over
    assert served.ended == [None if state is LINGERING else why], "what was said to its end is no failure"
    session.break_off(why)
    assert len(served.ended) == 1
