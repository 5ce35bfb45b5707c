"""How much one receive takes: little of a conversation, more of bulk. Real sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import pytest

from meshtls.sidecar.ends import PlainEnd, TlsEnd
from meshtls.tls.engine import TlsEngine
from tests.support.authority import context_for, make_authority
from tests.support.tls import Ends, engine_of, shake

Pair = tuple[socket.socket, socket.socket]
OURS = make_authority()
SMALL = 1 << 16


def full_of(sock: socket.socket, chunk: Callable[[], bytes]) -> None:
    """Send until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(chunk())


def bulk() -> bytes:
    return bytes(SMALL)


@pytest.fixture
def roomy(pair: Pair) -> Pair:
    """The same with room for a few receives."""
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return pair


def test_bulk_is_received_in_larger_pieces_and_after_a_small_one_in_small_ones_again(roomy: Pair) -> None:
    ours, theirs = roomy
    end, took = PlainEnd(ours, "the app"), []

    def receive() -> None:
        data = end.receive()
        assert data is not None
        took.append(len(data))

    full_of(theirs, bulk)
    receive()
    full_of(theirs, bulk)
    receive()
    while end.receive() is not None:
        pass
    theirs.send(b"a message")
    receive()
    full_of(theirs, bulk)
    receive()
    first, second, message, after = took
    assert second > first == SMALL, "the second takes what the first showed to be there"
    assert (message, after) == (9, SMALL)


def test_a_stream_of_exactly_one_small_piece_at_a_time_loses_no_byte(roomy: Pair) -> None:
    ours, theirs = roomy
    end = PlainEnd(ours, "the app")
    for place in range(3):
        theirs.send(bytes([place]) * SMALL)
        data = end.receive()
        assert data is not None
        assert bytes(data) == bytes([place]) * SMALL
        assert end.receive() is None


def connected() -> tuple[TlsEngine, TlsEngine]:
    client = engine_of(context_for(OURS, "/client"), server_side=False)
    server = engine_of(context_for(OURS, "/server"), server_side=True)
    assert shake(client, server) == Ends()
    return client, server


def test_over_tls_as_well_and_the_largest_piece_there_is_finds_room(roomy: Pair) -> None:
    ours, theirs = roomy
    client, server = connected()
    end, sealed = TlsEnd(ours, server, "the peer"), client.seal(bytes(3_000_000))
    took, sent, whole = [], 0, 0
    while whole < 3_000_000:
        with contextlib.suppress(BlockingIOError):
            while sent < len(sealed):
                sent += theirs.send(sealed[sent : sent + SMALL])
        data = end.receive()
        assert not end.ended
        took.append(0 if data is None else len(data))
        whole += took[-1]
    assert whole == 3_000_000
    assert took[0] <= SMALL
    assert max(took) > 2 * SMALL
