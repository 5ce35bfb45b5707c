"""What the two filters tell of requests that they refuse by themselves, and that no judge sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import hpack
import pytest

from meshtls.wire.http import Forward, HttpLimits, HttpRequest, Refuse, Ruling, UnjudgedRequest
from meshtls.wire.http1.filter import Http1Filter
from meshtls.wire.http2.filter import Http2Filter
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE, Kind, frame
from tests.unit.wire.http1.ends import bytewise
from tests.unit.wire.http2.ends import headers, settings
from tests.unit.wire.http2.filtered import GET, POST, Fields

SMALL = HttpLimits(header_bytes=2000, header_count=5, uri_length=100, streams=2)
HOST = b"Host: app\r\n\r\n"
#: What a client of HTTP/1.1 sends, and what is told of it: method, target, status and the beginning of the reason.
HTTP1: dict[str, tuple[bytes, tuple[str, str, int, str]]] = {
    "two framings": (
        b"POST /a?b HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ("POST", "/a?b", 400, "wanted Content-Length or Transfer-Encoding, got both"),
    ),
    "a long target": (
        b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n" + HOST,
        ("GET", "/" + "a" * 100, 414, "wanted a target of at most 100 bytes"),
    ),
    "a target without an end": (b"GET /" + b"a" * 3000, ("GET", "/", 414, "wanted a request line of at most")),
    "many fields": (
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 6 + HOST,
        ("GET", "/", 431, "wanted at most 5 fields, got 7"),
    ),
    "many bytes": (
        b"GET / HTTP/1.1\r\nx: " + b"y" * 2000 + b"\r\n" + HOST,
        ("GET", "/", 431, "wanted at most 2000 bytes of fields"),
    ),
    "an expectation": (
        b"PUT / HTTP/1.1\r\nExpect: 200-ok\r\n" + HOST,
        ("PUT", "/", 417, "wanted no Expect but 100-continue"),
    ),
    "no HTTP": (b"\x16\x03\x01\n" * 20, ("\x16", "", 400, "wanted lines that end with CRLF")),
    "a method without an end": (b"A" * 3000, ("A" * 32, "", 414, "wanted a request line of at most")),
    "an escape": (b"GET /\x1b[2J HTTP/1.1\r\n" + HOST, ("GET", "/\x1b", 400, "wanted lines that end with CRLF")),
}


@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", HTTP1)
def test_an_http1_request_that_is_refused_unread_is_told_once_with_what_was_read(
    name: str, cut: Callable[[bytes], Iterable[bytes]]
) -> None:
    sent, (method, target, status, reason) = HTTP1[name]
    told: list[UnjudgedRequest] = []
    judged: list[HttpRequest] = []
    one = Http1Filter(lambda http, answer: judged.append(http), lambda: None, SMALL, told.append)
    for piece in cut(sent):
        one.from_client(piece)
    (request,) = told
    assert (request.host, request.status) == ("", status)
    assert request.method.startswith(method)
    assert request.path.startswith(target)
    assert len(request.path) <= 2048
    assert request.reason.startswith(reason)
    assert one.for_client().startswith(b"HTTP/1.1 %d " % status)
    assert judged == []


def test_an_http1_request_that_ends_within_its_head_is_told() -> None:
    told: list[UnjudgedRequest] = []
    one = Http1Filter(lambda *_: None, lambda: None, SMALL, told.append)
    one.from_client(b"DELETE /x HTTP/1.1\r\nHo")
    one.client_ended()
    assert told == [UnjudgedRequest("DELETE", "", "/x", 400, "the client's connection ended within a request's head")]


def test_requests_that_the_judge_refuses_or_forwards_are_not_told() -> None:
    told: list[UnjudgedRequest] = []
    rulings: Iterator[Ruling] = iter([Refuse(403, "no\n"), Forward(HttpRequest("GET", "app", "/"))])
    one = Http1Filter(lambda _, answer: answer(next(rulings)), lambda: None, SMALL, told.append)
    one.from_client(b"GET / HTTP/1.1\r\n" + HOST + b"GET / HTTP/1.1\r\n" + HOST)
    two = Http2Filter(lambda _, answer: answer(Refuse(403, "no\n")), lambda: None, SMALL, told.append)
    two.from_client(PREFACE + settings() + request(1, GET))
    assert told == []


def request(number: int, fields: Fields) -> bytes:
    block = hpack.Encoder().encode(fields, huffman=False)
    return headers(number, block, END_HEADERS | END_STREAM)


def with_path(path: str) -> Fields:
    return [*GET[:3], (":path", path)]


#: What a client of HTTP/2 sends after its SETTINGS, and what is told of its last request.
HTTP2: dict[str, tuple[bytes, UnjudgedRequest]] = {
    "a long target": (
        request(1, with_path("/" + "a" * 100)),
        UnjudgedRequest("GET", "db.test", "/" + "a" * 100, 414, "wanted a target of at most 100 bytes, got 101"),
    ),
    "many fields": (
        request(1, [*GET, ("a", "b"), ("c", "d")]),
        UnjudgedRequest("GET", "db.test", "/a?b=c", 431, "wanted a head of at most 5 fields, got 6"),
    ),
    "two hosts": (
        request(1, [*GET, ("host", "other.test")]),
        UnjudgedRequest("GET", "db.test", "/a?b=c", 400, "wanted a Host that is the same as :authority, got another"),
    ),
    "a path with a blank": (
        request(1, with_path("/a b")),
        UnjudgedRequest(
            "GET",
            "db.test",
            "/a b",
            0,
            "PROTOCOL_ERROR: wanted a :path from / on, of visible ASCII without #, got b'/a b'",
        ),
    ),
    "a body that is missing": (
        request(1, [*POST, ("content-length", "3")]),
        UnjudgedRequest("POST", "db.test", "/a?b=c", 0, "PROTOCOL_ERROR: wanted a body as long as Content-Length says"),
    ),
    "more streams than are allowed": (
        b"".join(headers(number, hpack.Encoder().encode(POST), END_HEADERS) for number in (1, 3)) + request(5, GET),
        UnjudgedRequest("GET", "db.test", "/a?b=c", 0, "REFUSED_STREAM: no more streams are accepted now"),
    ),
    "a head beyond all limits": (
        request(1, [*GET, *[("x", "y" * 100)] * 50]),
        UnjudgedRequest("", "", "", 0, "ENHANCE_YOUR_CALM: the peer's header list is too long: more than 4000 bytes"),
    ),
    "a frame that breaks a rule": (
        frame(Kind.PING, 0, 0, b"short"),
        UnjudgedRequest("", "", "", 0, "FRAME_SIZE_ERROR: wanted PING of 8 bytes, got 5"),
    ),
    "what is long": (
        request(1, [(":method", "m" * 100), GET[1], (":authority", "h" * 400), (":path", "/" + "p" * 1000)]),
        UnjudgedRequest(
            "m" * 32,
            "h" * 256,
            "/" + "p" * 1000,
            0,
            f"PROTOCOL_ERROR: wanted a method in capital letters, got {b'm' * 80!r}",
        ),
    ),
}


@pytest.mark.parametrize("name", HTTP2)
def test_an_http2_request_that_is_refused_unjudged_is_told_once_with_what_was_read(name: str) -> None:
    sent, wanted = HTTP2[name]
    told: list[UnjudgedRequest] = []
    one = Http2Filter(lambda *_: None, lambda: None, SMALL, told.append)
    one.from_client(PREFACE + settings() + sent)
    assert told == [wanted]


#: Requests of HTTP/2 that are well formed, of any length, and the status of their refusal.
LONG: dict[str, tuple[Fields, int]] = {
    "a long target": (with_path("/" + "a" * 60_000), 414),
    "a body that is missing": ([*with_path("/" + "a" * 8000), ("content-length", "3")], 0),
    "two hosts": ([*with_path("/" + "a" * 8000), ("host", "other.test")], 400),
}


@pytest.mark.parametrize("name", LONG)
def test_a_well_formed_http2_request_of_any_length_is_told_with_the_beginning_of_its_target(name: str) -> None:
    fields, status = LONG[name]
    told: list[UnjudgedRequest] = []
    one = Http2Filter(lambda *_: None, lambda: None, HttpLimits(), told.append)
    one.from_client(PREFACE + settings() + long_request(1, fields))
    assert [(request.path, request.status) for request in told] == [("/" + "a" * 2047, status)]


@pytest.mark.parametrize(
    ("field", "longest"), [("method", 32), ("host", 256), ("path", 2048)], ids=["method", "host", "path"]
)
def test_the_report_of_an_unjudged_request_is_cut(field: str, longest: int) -> None:
    for length in (longest, longest + 1):
        texts = {"method": "M", "host": "h", "path": "/", field: "x" * length}
        request = UnjudgedRequest.of(**texts, status=400, reason="no")
        assert getattr(request, field) == "x" * longest
        assert request == UnjudgedRequest(**{**texts, field: "x" * longest}, status=400, reason="no")


def test_a_pseudo_header_field_of_any_length_makes_a_short_reason() -> None:
    told: list[UnjudgedRequest] = []
    one = Http2Filter(lambda *_: None, lambda: None, HttpLimits(), told.append)
    for number, name in ((1, ":" + "x" * 50_000), (3, "y" * 50_000 + "Z")):
        one.from_client((PREFACE + settings() if number == 1 else b"") + long_request(number, [*GET, (name, "v")]))
    assert [len(request.reason) < 400 for request in told] == [True, True]


def long_request(number: int, fields: Fields) -> bytes:
    block = hpack.Encoder().encode(fields, huffman=False)
    first, *rest = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    sent = headers(number, first, END_STREAM if rest else END_STREAM | END_HEADERS)
    for at, piece in enumerate(rest, 1):
        sent += frame(Kind.CONTINUATION, END_HEADERS if at == len(rest) else 0, number, piece)
    return sent
