"""Ends over real sockets: how much one receive takes, what a rest is, and how a side that is gone is found out."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.ends import PlainEnd, TlsEnd
from meshtls.sidecar.reactor import Buffers
from meshtls.tls.engine import TlsEngine
from meshtls.wire.http2.frames import HEADER_BYTES
from tests.support.authority import context_for, make_authority
from tests.support.tls import Ends, engine_of, shake
from tests.support.waiting import SECONDS

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
    end, took = PlainEnd(ours, "the app", Buffers()), []

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


def test_a_receive_of_exactly_one_small_piece_loses_no_byte(roomy: Pair) -> None:
    ours, theirs = roomy
    end = PlainEnd(ours, "the app", Buffers())
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


def test_the_largest_piece_finds_room_over_tls_too(roomy: Pair) -> None:
    ours, theirs = roomy
    client, server = connected()
    end, sealed = TlsEnd(ours, server, "the peer", Buffers()), client.seal(bytes(3_000_000))
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


@pytest.fixture
def gone() -> Iterator[socket.socket]:
    """A TCP socket whose other side has closed: it has sent FIN, and answers what it is sent with a reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname()).close()
        sock, _ = listener.accept()
    with sock:
        sock.setblocking(False)
        _until(sock, select.POLLRDHUP)
        yield sock


def _until(sock: socket.socket, event: int = 0) -> None:
    """Wait for this event; without one, for the end of the connection in both directions."""
    poll = select.poll()
    poll.register(sock, event)
    assert poll.poll(SECONDS * 1000)


@pytest.mark.parametrize("heard", [True, False], ids=["whose end was received", "whose end was not received"])
def test_an_app_that_left_before_the_last_bytes_is_a_reset_unless_it_had_ended_its_side(
    gone: socket.socket, heard: bool
) -> None:
    end = PlainEnd(gone, "the app", Buffers())
    if heard:
        assert end.receive() is None
    assert end.ended is heard
    assert end.transmit(b"late")
    _until(gone)
    if heard:
        assert end.finish()
    else:
        with pytest.raises(EndedError, match="the app is gone"):
            end.finish()


def test_a_frame_is_built_around_what_a_plain_socket_gave_without_a_copy(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"a message")
    buffers = Buffers()
    data = PlainEnd(ours, "the app", buffers).receive()
    assert data is not None
    framed = buffers.with_headroom(data)
    assert framed is not None
    framed[:HEADER_BYTES] = bytes(HEADER_BYTES)
    assert bytes(framed) == bytes(HEADER_BYTES) + b"a message"
    framed[HEADER_BYTES] = ord("A")
    assert bytes(data) == b"A message", "they are the same bytes"
    for other in (data[2:], bytes(data)):
        assert buffers.with_headroom(other) is None, "what lies before other bytes is not free"


def test_an_end_adds_to_its_rest_what_is_pushed_and_sends_all_in_order(pair: Pair) -> None:
    ours, theirs = pair
    end, sent = PlainEnd(ours, "the app", Buffers()), bytearray()
    while not end.unsent:
        sent += b"%06d" % len(sent) * 5000
        end.transmit(bytes(sent[-30000:]))
    for piece in (b"one", memoryview(bytearray(b"two")), bytes(70_000)):
        kept = end.unsent
        assert not end.transmit(piece)
        assert end.unsent == kept + len(piece)
        sent += piece
    took = bytearray()
    while len(took) < len(sent):
        assert end.flush() == (end.unsent == 0)
        with contextlib.suppress(BlockingIOError):
            while True:
                took += theirs.recv(1 << 16)
        assert len(took) == len(sent) - end.unsent
    assert took == sent
    assert end.unsent == 0
