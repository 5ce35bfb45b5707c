"""Fuzz targets for HTTP/1.1: the filter between a hostile client and an app, and the first bytes of a connection."""

from __future__ import annotations

import h11
from hypothesis import strategies as st

from meshtls.wire.http import HttpLimits
from meshtls.wire.http1.filter import Http1Filter
from meshtls.wire.http1.start import HttpStart, http_start_of
from tests.fuzz.running import documented, fuzzed, spliced
from tests.unit.wire.http1.ends import App, Around, deny_below
from tests.unit.wire.http1.smuggling import CASES

TUNNEL = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nhello"
SAMPLES = [*(case.raw for case in CASES), TUNNEL]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    b"HTTP/1.1 200 OK\r\n\r\nto the end",
]
LIMITS = HttpLimits(header_bytes=2000, uri_length=500, extension_bytes=100, trailer_bytes=200, dropped_bytes=200)
streams = st.lists(spliced(SAMPLES) | st.sampled_from(SAMPLES), min_size=1, max_size=4).map(b"".join)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=20)


def cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """In pieces of these lengths, over and over."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        length = lengths[len(pieces) % len(lengths)]
        pieces.append(data[at : at + length])
        at += length
    return pieces


def test_the_app_reads_what_was_judged() -> None:
    def target(data: bytes, lengths: list[int]) -> None:
        """h11 raises for what it does not accept."""
        results = []
        for pieces in ([data], cut(data, lengths)):
            around = Around(deny_below("/hidden"), App(), LIMITS)
            documented(lambda around=around, pieces=pieces: around.client(*pieces), size=len(data), per_byte=2000)  # type: ignore[misc]
            around.client_ends()
            assert around.app is not None
            allowed = [one for one in around.judged if not one.path.startswith("/hidden")]
            seen = around.app.seen
            # Of a request whose body broke, the app has only a part, and it was the last.
            assert len(allowed) - 1 <= len(seen) <= len(allowed)
            for judged, read in zip(allowed, seen, strict=False):
                assert (judged.method, judged.host) == (read.method, read.host)
                assert (judged.path or judged.host) == read.target
                assert set(judged.headers) <= set(read.headers)
            results.append((around.judged, seen, around.statuses))
        if not any(one.method == "CONNECT" for one in results[0][0]):
            assert results[0] == results[1], "the cuts changed the result"

    fuzzed(target, streams, sizes)


def test_answers_pass_or_end_the_connection() -> None:
    def target(request: bytes, answers: bytes, lengths: list[int]) -> None:
        around = Around(limits=LIMITS).client(request)
        for piece in cut(answers, lengths):
            documented(lambda piece=piece: around.answer(piece), size=len(piece), per_byte=2000)  # type: ignore[misc]
        around.app_ends()
        if around.judged:
            assert around.filter.client_finished
        status = around.to_client.partition(b"\r\n\r\n")[0]
        assert not around.to_client or status.startswith(b"HTTP/1.")

    requests = st.sampled_from(
        [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        ]
    )
    answers = st.lists(spliced(ANSWERS), min_size=1, max_size=4).map(b"".join)
    fuzzed(target, requests, answers, sizes)


def test_the_work_is_linear_in_the_bytes_that_arrive_one_by_one() -> None:
    def calls(count: int, part: bytes) -> int:
        """Bytes that ``bytearray.find`` and the like look at are not counted, only calls."""
        total = 0
        data = (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + part * count)[: 60 * count]
        made = Http1Filter(lambda _, answer: None, lambda: None)
        for at in range(len(data)):
            made.from_client(data[at : at + 1])
            total += 1
        return total

    def target(part: bytes) -> None:
        documented(lambda: calls(20, part), size=1200, per_byte=100)

    fuzzed(target, st.sampled_from(SAMPLES))


def test_the_first_bytes_of_http() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    def target(data: bytes) -> None:
        answers = [http_start_of(data[:length]) for length in range(len(data) + 1)]
        assert answers[0] is HttpStart.UNDECIDED
        decided = [one for one in answers if one is not HttpStart.UNDECIDED]
        assert len(set(decided)) <= 1, "later bytes changed the answer"
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(data)
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            return
        if isinstance(event, h11.Request) and not preface.startswith(data):
            # What any server could take for a request is not passed on unread. A part of HTTP/2's preface waits for the
            # rest.
            assert decided
            assert decided[0] is not HttpStart.OTHER

    fuzzed(target, spliced([*SAMPLES, preface, b"\x16\x03\x01", b"get /key\r\n", b"PING\r\n"]) | st.binary(max_size=9))
