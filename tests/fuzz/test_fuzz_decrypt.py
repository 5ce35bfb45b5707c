"""Fuzz targets for what reads a captured connection: key logs, TLS sessions, and HTTP inside of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hpack
from hypothesis import strategies as st

from meshtls.capture.application import Conversation
from meshtls.capture.keylog import LONGEST_LINE, KeyLog
from meshtls.capture.outside import outside_view
from meshtls.capture.server_hello import server_hello_facts
from meshtls.capture.session import MOST_EVENTS, TlsSession
from meshtls.wire.http2.frames import END_HEADERS, PREFACE, Kind, frame
from meshtls.wire.side import Side
from tests.fuzz.running import documented, fuzzed, spliced
from tests.support.tls_wire import Flight, Wire, contexts

HTTP1 = (
    b"GET /a?b HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x16\x03\x01\x00\x02\x01\x00",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\n\r\n",
)
CONNECT = hpack.Encoder().encode([(":method", "CONNECT"), (":authority", "a:1")])
CALL = hpack.Encoder().encode([(":method", "POST"), (":path", "/a.B/c"), ("content-type", "application/grpc")])
HTTP2 = (
    PREFACE + frame(Kind.SETTINGS, 0, 0, b"\0\1\0\0\x10\0") + frame(Kind.HEADERS, END_HEADERS, 1, CONNECT),
    PREFACE + frame(Kind.HEADERS, END_HEADERS, 1, CALL) + frame(Kind.DATA, 1, 1, b"abc"),
    frame(Kind.SETTINGS, 0, 0, b"") + frame(Kind.HEADERS, END_HEADERS, 1, b"\x88") + frame(Kind.DATA, 0, 1, HTTP1[0]),
    frame(Kind.RST_STREAM, 0, 1, b"\0\0\0\x08") + frame(Kind.GOAWAY, 0, 0, bytes(8)),
)
SAMPLES = HTTP1 + HTTP2


def _talk(version: int) -> tuple[list[Flight], KeyLog, bytes]:
    with tempfile.TemporaryDirectory() as place:
        keylog = Path(place) / "keys.log"
        wire = Wire(*contexts(Path(place), keylog, mutual=True, version=version))
        assert wire.shake() == {}
        wire.send(Side.CLIENT, HTTP1[0])
        wire.send(Side.SERVER, HTTP1[3])
        wire.close()
        text = keylog.read_bytes()
        return wire.flights, KeyLog(text), text


TALKS = [_talk(2), _talk(3)]
FLIGHTS = st.lists(st.tuples(st.sampled_from(Side), spliced(SAMPLES) | st.binary(max_size=40)), max_size=6)


def test_a_key_log() -> None:
    samples = (*(text for _, _, text in TALKS), b"# a\n\r\nRSA a b\n", b"x" * (LONGEST_LINE + 5))

    def target(data: bytes, cut: int) -> None:
        keys = KeyLog()
        documented(lambda: _fed(keys, data, cut), size=len(data))
        whole = KeyLog(data)
        assert (keys.lines, keys.troubles, len(keys)) == (whole.lines, whole.troubles, len(whole))

    fuzzed(target, spliced(samples), st.integers(1, 2000))


def _fed(keys: KeyLog, data: bytes, cut: int) -> None:
    for at in range(0, len(data), cut):
        keys.feed(data[at : at + cut])
    keys.finish()


def test_a_server_hello() -> None:
    hellos = [data[5 : 5 + int.from_bytes(data[3:5], "big")] for flights, _, _ in TALKS for side, data in flights[1:2]]

    def target(data: bytes) -> None:
        documented(lambda: server_hello_facts(data), ValueError, size=len(data))

    fuzzed(target, spliced(hellos) | st.binary(max_size=80))


def test_a_tls_session_whose_bytes_are_altered_lost_and_cut() -> None:
    def target(which: int, at: int, flip: int, lost: int, cut: int, keyed: bool) -> None:
        flights, keys, _ = TALKS[which]
        session = TlsSession(keys if keyed else None, Conversation())
        size = sum(len(data) for _, data in flights)

        def run() -> None:
            offset = 0
            for side, data in flights:
                start = at - offset
                if 0 <= start < len(data):
                    altered = bytearray(data)
                    altered[start] ^= flip
                    data = bytes(altered[:start] + altered[start + lost :]) if lost else bytes(altered)
                offset += len(data)
                for place in range(0, len(data), cut):
                    session.feed(side, data[place : place + cut], 1)
                if lost and 0 <= start < len(data):
                    session.gap(side, 0)
            for side in Side:
                session.end(side)
            outside_view(session)

        documented(run, size=size, calls=200_000, per_byte=400)
        assert len(session.events) <= MOST_EVENTS + 2

    numbers = st.integers(0, 6000)
    fuzzed(
        target,
        st.integers(0, 1),
        numbers,
        st.integers(0, 255),
        st.integers(0, 300),
        st.integers(1, 4000),
        st.booleans(),
    )


def test_bytes_that_may_be_records() -> None:
    pieces = st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=60), st.integers(0, 100)), max_size=8)
    samples = [data for flights, _, _ in TALKS for _, data in flights]

    def target(data: bytes, more: list[tuple[Side, bytes, int]]) -> None:
        session = TlsSession(TALKS[1][1])
        size = len(data) + sum(len(one) for _, one, _ in more)

        def run() -> None:
            session.feed(Side.CLIENT, data, 1)
            session.feed(Side.SERVER, data, 1)
            for side, one, lost in more:
                session.gap(side, lost)
                session.feed(side, b"\x17\x03\x03" + one, 2)

        documented(run, size=size, calls=200_000, per_byte=400)

    fuzzed(target, spliced(samples), pieces)


def test_a_conversation_of_http() -> None:
    def target(flights: list[tuple[Side, bytes]], cut: int, lost: int) -> None:
        talk = Conversation()
        size = sum(len(data) for _, data in flights)

        def run() -> None:
            for number, (side, data) in enumerate(flights):
                for at in range(0, len(data), cut):
                    talk.feed(side, data[at : at + cut], number)
                if number == lost:
                    talk.gap(side, 3)
            for side in Side:
                talk.end(side)
            list(talk.all_troubles())

        documented(run, size=size, per_byte=400)

    fuzzed(target, FLIGHTS, st.integers(1, 200), st.integers(0, 12))
