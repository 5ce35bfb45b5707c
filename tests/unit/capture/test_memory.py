"""What is kept of all connections of a capture is bounded together, measured in bytes; what has no room is told."""

from __future__ import annotations

import gc
import io
import ssl
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import hpack
import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.application import Conversation
from meshtls.capture.exchange import InsideBudget
from meshtls.capture.keylog import KeyLog
from meshtls.capture.memory import SMALL_BYTES, MemoryPool
from meshtls.observe.events import Outcome
from meshtls.wire.http2.frames import END_HEADERS, PREFACE, Kind, frame
from meshtls.wire.side import Side
from tests.support.packets import ACK
from tests.support.tls_capture import Tape, shaken

C, S = Side.CLIENT, Side.SERVER
NOW = 1_700_000_000_000_000_000
MIB = 1 << 20


def _client_hello() -> bytes:
    out = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="web.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


HELLO = _client_hello()
LONG = [
    (":method", "GET"),
    (":path", "/" + "a" * 2040),
    (":authority", "b" * 250),
    ("content-type", "application/grpc"),
]
Pieces = Iterator[tuple[Side, bytes]]


def records() -> Pieces:
    yield C, HELLO
    yield from ((C, b"\x17\x03\x03\x00\x10" + bytes(16)) for _ in range(400))


def messages() -> Pieces:
    yield C, HELLO
    yield from ((C, b"\x16\x03\x03\x00\x04" + bytes(4)) for _ in range(400))


def one_long_message() -> Pieces:
    yield C, HELLO
    yield C, b"\x16\x03\x03\x40\x00\x0b\x0f\x00\x00" + bytes(16380)
    yield from ((C, b"\x16\x03\x03\x40\x00" + bytes(16384)) for _ in range(40))


def unfinished_records() -> Pieces:
    yield C, HELLO
    yield from ((side, b"\x16\x03\x03\x40\x00" + bytes(16000)) for side in Side)


def requests_of_http2() -> Pieces:
    encoder = hpack.Encoder()
    yield C, PREFACE + frame(Kind.SETTINGS, 0, 0, b"")
    # After the first one, HPACK says all of it in four bytes.
    yield from ((C, frame(Kind.HEADERS, END_HEADERS, 1 + 2 * one, encoder.encode(LONG))) for one in range(400))


def requests_of_http1() -> Pieces:
    yield from ((C, b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(400))


def an_unfinished_head() -> Pieces:
    yield C, b"GET / HTTP/1.1\r\nHost: a\r\n"
    yield from ((C, b"a: " + b"b" * 1000 + b"\r\n") for _ in range(60))


def an_unfinished_line() -> Pieces:
    yield from ((C, b"G") for _ in range(600))


def tunnels() -> Pieces:
    yield C, PREFACE + frame(Kind.SETTINGS, 0, 0, b"")
    block = hpack.Encoder().encode([(":method", "CONNECT"), (":authority", "b")])
    for stream in range(1, 400, 2):
        yield C, frame(Kind.HEADERS, END_HEADERS, stream, block)[: 9 + len(block)]
        yield C, frame(Kind.DATA, 0, stream, HELLO)


SPOKEN: list[Callable[[], Pieces]] = [
    *(records, messages, one_long_message, unfinished_records, requests_of_http2, requests_of_http1),
    *(an_unfinished_head, an_unfinished_line, tunnels),
]


def measured(made: Callable[[], object]) -> tuple[object, int]:
    """What it makes, and how many bytes of memory that has."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = made()
        gc.collect()
        return kept, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def fed(pool: MemoryPool, spoken: Callable[[], Pieces]) -> Conversation:
    talk = Conversation(budget=InsideBudget(memory=pool.share()))
    for number, (side, data) in enumerate(spoken()):
        talk.feed(side, data, NOW + number)
    return talk


#: Bytes of a session that has seen nothing, which the number of connections bounds.
EMPTY = 8192


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda one: str(one.__name__))
def test_a_connection_takes_as_much_memory_as_it_needs(spoken: Callable[[], Pieces]) -> None:
    pool = MemoryPool(1 << 30)
    talk, needed = measured(lambda: fed(pool, spoken))
    assert isinstance(talk, Conversation)
    assert pool.refused == 0
    assert needed - EMPTY <= 1.25 * talk.memory.taken
    assert talk.memory.taken == pool.most - pool.left


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda one: str(one.__name__))
def test_many_connections_keep_no_more_than_their_pool_together(spoken: Callable[[], Pieces]) -> None:
    pool, number = MemoryPool(MIB // 4), 30
    talks, needed = measured(lambda: [fed(pool, spoken) for _ in range(number)])
    assert isinstance(talks, list)
    assert needed <= 1.25 * pool.most + number * EMPTY
    for talk in talks:
        told = [trouble.reason for _, trouble in talk.all_troubles()]
        assert talk.memory.refused == any("for all connections of the capture are in use" in one for one in told)


def taken_by(pool: MemoryPool) -> int:
    share = pool.share()
    while share.take(64):
        pass
    assert share.refused
    return share.taken


def test_connections_that_want_all_leave_the_others_what_is_for_those_that_take_little() -> None:
    pool = MemoryPool(MIB)
    assert [taken_by(pool) for _ in range(10)] == [MIB // 16] * 8 + [SMALL_BYTES] * 2
    assert pool.refused == 10
    small = pool.share()
    assert small.take(SMALL_BYTES)
    assert not small.refused
    # What one gives back serves the next.
    small.close()
    assert (small.taken, pool.left) == (0, MIB // 2 - 2 * SMALL_BYTES)


def test_no_more_is_given_than_there_is() -> None:
    pool = MemoryPool(MIB)
    assert sum(taken_by(pool) for _ in range(200)) == MIB
    assert not pool.share().take(1)


def analysis_of(directory: Path, most: int, *, close: bool = True) -> tuple[list[Connection], MemoryPool]:
    """Twenty connections that are open at once, decrypted; the first sends the most."""
    tape = Tape()
    wire = shaken(directory)
    talks = [tape.talk() for _ in range(20)]
    for talk in talks:
        tape.frames += talk.handshake()
    for talk in talks:
        tape.frames += [talk.send(side, data) for side, data in wire.flights]
    for talk in talks:
        tape.frames += talk.close() if close else [talk.client(flags=ACK)]
    pool = MemoryPool(most)
    analysis = Analysis(io.BytesIO(tape.pcapng()), KeyLog((directory / "keys").read_bytes()), memory=pool)
    return sorted(analysis, key=lambda one: one.number), pool


def test_connections_that_fit_are_told_whole_and_give_their_memory_back(tmp_path: Path) -> None:
    found, pool = analysis_of(tmp_path, MIB)
    assert (pool.refused, pool.left) == (0, MIB)
    assert {(one.outcome, one.problem, one.troubles) for one in found} == {(Outcome.OK, "", ())}


def test_connections_that_do_not_fit_into_memory_are_not_judged_by_what_is_left_of_them(tmp_path: Path) -> None:
    found, pool = analysis_of(tmp_path, 32 << 10)
    assert pool.left == 32 << 10
    assert 0 < pool.refused < 20
    for one in found:
        assert one.handshake is not None
        if one.outcome is Outcome.OK:
            assert (one.handshake.legal, one.problem, one.troubles) == (True, "", ())
        else:
            assert (one.outcome, one.handshake.legal) == (None, None)
            assert one.problem == "there was no memory to follow the handshake: analyze fewer connections at a time"
            assert "for all connections of the capture are in use" in one.troubles[0]
    assert sum(one.outcome is None for one in found) == pool.refused
