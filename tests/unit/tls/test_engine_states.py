"""The states of a TLS engine: every cell of the table, and real engines that walk through it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshtls.errors import ClosedEarlyError, HandshakeError, PeerError
from meshtls.policy.authorizer import authorize_id
from meshtls.svid.context import X509Context
from meshtls.tls.engine import TlsEngine
from meshtls.tls.states import ENGINE, EngineState, EngineStep
from meshtls.wire.tls import MAX_RECORD
from tests.support.authority import LASTING, context_for, make_authority
from tests.support.tls import engine_of, shake

HANDSHAKING, OPEN, PEER_CLOSED, WE_CLOSED, CLOSED, REFUSED, BROKEN = EngineState
PROVEN, CLOSED_BY_PEER, CLOSED_BY_US, FAILED = EngineStep
OURS = make_authority("example.org")
CLIENT, SERVER = (context_for(OURS, path, ttl=LASTING) for path in ("/client", "/server"))

STEPS = {
    (HANDSHAKING, PROVEN): OPEN,
    (HANDSHAKING, FAILED): REFUSED,
    (OPEN, CLOSED_BY_PEER): PEER_CLOSED,
    (OPEN, CLOSED_BY_US): WE_CLOSED,
    (OPEN, FAILED): BROKEN,
    (PEER_CLOSED, CLOSED_BY_US): CLOSED,
    (PEER_CLOSED, FAILED): BROKEN,
    (WE_CLOSED, CLOSED_BY_PEER): CLOSED,
    (WE_CLOSED, CLOSED_BY_US): WE_CLOSED,
    (WE_CLOSED, FAILED): BROKEN,
    (CLOSED, CLOSED_BY_US): CLOSED,
    (CLOSED, FAILED): BROKEN,
    (REFUSED, CLOSED_BY_PEER): REFUSED,
    (REFUSED, CLOSED_BY_US): REFUSED,
    (REFUSED, FAILED): REFUSED,
    (BROKEN, CLOSED_BY_PEER): BROKEN,
    (BROKEN, CLOSED_BY_US): BROKEN,
    (BROKEN, FAILED): BROKEN,
}


def test_the_table_has_these_steps_and_no_others() -> None:
    assert {(at, step): to for at, steps in ENGINE.items() for step, to in steps.items()} == STEPS
    assert set(ENGINE) == set(EngineState)


def connected() -> tuple[TlsEngine, TlsEngine]:
    """A client and a server that have shaken hands."""
    client, server = engine_of(CLIENT, server_side=False), engine_of(SERVER, server_side=True)
    shake(client, server)
    return client, server


def fed(engine: TlsEngine, cipher: bytes) -> None:
    engine.feed(cipher)
    engine.read()


def opened(engine: TlsEngine, cipher: bytes) -> None:
    engine.open(memoryview(cipher), memoryview(bytearray(len(cipher) + MAX_RECORD)))


READERS: list[Callable[[TlsEngine, bytes], None]] = [fed, opened]


def test_the_handshake_opens_both_ends() -> None:
    client, server = engine_of(CLIENT, server_side=False), engine_of(SERVER, server_side=True)
    assert (repr(client), repr(server)) == ("<TlsEngine client HANDSHAKING>", "<TlsEngine server HANDSHAKING>")
    client.handshake()
    server.feed(client.outgoing())
    assert server.handshake() is None
    assert repr(server) == "<TlsEngine server HANDSHAKING>"
    shake(client, server)
    assert (repr(client), repr(server)) == ("<TlsEngine client OPEN>", "<TlsEngine server OPEN>")


def test_a_peer_that_is_not_allowed_is_refused_and_reads_of_it_once_its_end_is_open() -> None:
    """A TLS 1.3 client's handshake is done before the server has checked it."""
    client = engine_of(CLIENT, server_side=False)
    server = engine_of(SERVER, server_side=True, authorizer=authorize_id("spiffe://example.org/other"))
    shake(client, server)
    assert (repr(client), repr(server)) == ("<TlsEngine client BROKEN>", "<TlsEngine server REFUSED>")
    with pytest.raises(PeerError):
        server.handshake()
    assert server.state is REFUSED


@pytest.mark.parametrize(
    ("ours", "server_side", "kind"), [(SERVER, True, ClosedEarlyError), (CLIENT, False, HandshakeError)]
)
def test_a_wire_that_ends_in_the_handshake_refuses_the_peer_and_a_client_has_only_closed_early(
    ours: X509Context, server_side: bool, kind: type[HandshakeError]
) -> None:
    engine = engine_of(ours, server_side=server_side)
    engine.feed_eof()
    with pytest.raises(HandshakeError, match="^the peer closed the connection in the middle of TLS$") as ended:
        engine.handshake()
    assert (type(ended.value), engine.state) == (kind, REFUSED)


def test_a_peer_that_takes_too_long_is_refused_by_an_alert() -> None:
    server = engine_of(SERVER, server_side=True)
    server.queue_fatal_alert()
    assert (server.state, server.outgoing()[:1]) == (REFUSED, b"\x15")


@pytest.mark.parametrize("read", READERS)
def test_each_side_closes_its_own_direction(read: Callable[[TlsEngine, bytes], None]) -> None:
    client, server = connected()
    client.close_write()
    client.close_write()
    assert client.state is WE_CLOSED
    read(server, client.outgoing())
    assert (server.state, server.peer_closed) == (PEER_CLOSED, True)
    read(client, server.seal(b"more"))
    assert (client.state, client.peer_closed) == (WE_CLOSED, False)
    server.close_write()
    assert server.state is CLOSED
    read(client, server.outgoing())
    assert (client.state, client.peer_closed) == (CLOSED, True)
    server.close_write()
    assert server.state is CLOSED


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed by us"])
def test_a_record_that_was_changed_breaks_the_connection(
    read: Callable[[TlsEngine, bytes], None], closed: bool
) -> None:
    client, server = connected()
    if closed:
        server.close_write()
    record = client.seal(b"hello")
    with pytest.raises(HandshakeError):
        read(server, record[:-1] + bytes([record[-1] ^ 1]))
    assert server.state is BROKEN
    with pytest.raises(HandshakeError):
        server.seal(b"more")
    assert server.state is BROKEN


@pytest.mark.parametrize("read", READERS)
def test_writing_after_our_close_breaks_the_connection(read: Callable[[TlsEngine, bytes], None]) -> None:
    client, server = connected()
    server.close_write()
    with pytest.raises(HandshakeError):
        server.seal(b"more")
    assert server.state is BROKEN
    server.outgoing()
    client.close_write()
    read(server, client.outgoing())
    assert (server.state, server.peer_closed) == (BROKEN, True)


def test_a_wire_that_ends_without_close_notify_breaks_the_connection_and_after_close_notify_does_not() -> None:
    _, server = connected()
    server.feed_eof()
    with pytest.raises(HandshakeError):
        server.read()
    assert server.state is BROKEN

    client, server = connected()
    client.close_write()
    server.feed(client.outgoing())
    server.feed_eof()
    assert (server.read(), server.state) == (b"", PEER_CLOSED)


def test_an_open_connection_that_is_refused_after_all_is_broken_by_an_alert() -> None:
    client, server = connected()
    server.queue_fatal_alert()
    assert server.state is BROKEN
    with pytest.raises(HandshakeError, match="alert 'unexpected message'"):
        fed(client, server.outgoing())
