"""What a client, or an app, can do against RFC 9113 (sections 5 to 8), and how the filter ends it: by the stream's or
the connection's error, and with not a byte of the request at the app.
"""

from __future__ import annotations

import hpack
import pytest

from meshtls.wire.http import HttpLimits
from meshtls.wire.http2.filter import Http2Filter
from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, frame
from tests.unit.wire.http2.ends import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITY,
    data,
    frames_of,
    goaway,
    headers,
    rst_stream,
    settings,
    window_update,
)
from tests.unit.wire.http2.filtered import GET, POST, Fields, Judging

E = ErrorCode
BOTH = END_HEADERS | END_STREAM
BIG = (1 << 31) - 1


def block(fields: Fields) -> bytes:
    """Literals that no table holds, so that blocks can come in any order."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode("latin-1") + _length(len(value)) + value.encode("latin-1")
        for name, value in fields
    )


def _length(count: int) -> bytes:
    return bytes(hpack.hpack.encode_integer(count, 7))


GOOD, GOOD_POST = block(GET), block(POST)
#: Frames whose ping shows afterwards that the connection goes on.
ALIVE = frame(Kind.PING, 0, 0, b"still on")


class Raw:
    """A filter that gets raw frames, after both sides' SETTINGS."""

    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.judge = Judging()
        self.filter = Http2Filter(self.judge, lambda: None, limits)
        self.filter.from_client(PREFACE + settings())
        self.filter.from_app(settings())
        self.filter.for_client()

    def client_gets(self) -> list[tuple[Kind, int, int, bytes]]:
        said = b""
        while more := self.filter.for_client():
            said += more
        return frames_of(said)

    def app_gets(self) -> list[tuple[Kind, int, int, bytes]]:
        said = b""
        while more := self.filter.for_app():
            said += more
        return frames_of(said.removeprefix(PREFACE))


def outcome(got: list[tuple[Kind, int, int, bytes]]) -> tuple[str, int, ErrorCode] | None:
    """What ended: the connection, a stream, or nothing."""
    for kind, _, number, payload in got:
        if kind is Kind.GOAWAY and int.from_bytes(payload[4:8], "big"):
            return "connection", 0, ErrorCode(int.from_bytes(payload[4:8], "big"))
        if kind is Kind.RST_STREAM:
            return "stream", number, ErrorCode(int.from_bytes(payload, "big"))
    return None


def opened(got: list[tuple[Kind, int, int, bytes]]) -> list[int]:
    return [number for kind, _, number, _ in got if kind is Kind.HEADERS]


def changed(fields: Fields, **replaced: str | None) -> Fields:
    """The fields with pseudo-header fields replaced, or left out."""
    found = [(name, replaced.get(name[1:], value)) for name, value in fields]
    return [(name, value) for name, value in found if value is not None]


def get(*more: tuple[str, str]) -> bytes:
    return headers(1, block([*GET, *more]), BOTH)


def post(*more: tuple[str, str]) -> bytes:
    return headers(1, block([*POST, *more]))


def pseudo(**replaced: str | None) -> bytes:
    return headers(1, block(changed(GET, **replaced)), BOTH)


#: Requests that are malformed as they are: nothing of them may reach the app.
MALFORMED = {
    "8.2 a name in upper case": get(("X-Name", "v")),
    "8.2 an empty name": get(("", "v")),
    "8.2.1 a name with a space": get(("x name", "v")),
    "8.2.1 a name with a colon": get(("x:name", "v")),
    "8.2.1 a name with a byte above ASCII": get(("x\xff", "v")),
    "8.2.1 a name with NUL": get(("x\0", "v")),
    "8.2.1 a value with NUL": get(("x", "a\0b")),
    "8.2.1 a value with CR": get(("x", "a\rb")),
    "8.2.1 a value with LF": get(("x", "a\nb: c")),
    "8.2.1 a value with another control character": get(("x", "a\x01b")),
    "8.2.1 a value that begins with a space": get(("x", " v")),
    "8.2.1 a value that ends with a tab": get(("x", "v\t")),
    "8.2.2 connection": get(("connection", "close")),
    "8.2.2 keep-alive": get(("keep-alive", "timeout=5")),
    "8.2.2 proxy-connection": get(("proxy-connection", "keep-alive")),
    "8.2.2 transfer-encoding": post(("transfer-encoding", "chunked")),
    "8.2.2 upgrade": get(("upgrade", "websocket")),
    "8.2.2 te other than trailers": get(("te", "gzip")),
    "8.2.2 te with more than trailers": get(("te", "trailers, deflate")),
    "8.3 a pseudo-header field that does not exist": get((":x", "v")),
    "8.3 one that no request has": headers(1, block([(":status", "200"), *GET]), BOTH),
    "8.3 one after a regular field": headers(1, block([*GET[:3], ("x", "v"), GET[3]]), BOTH),
    "8.3.1 :method twice": headers(1, block([GET[0], *GET]), BOTH),
    "8.3.1 :path twice": headers(1, block([*GET, (":path", "/other")]), BOTH),
    "8.3.1 :authority twice": headers(1, block([*GET, (":authority", "db.test")]), BOTH),
    "8.3.1 no :method": pseudo(method=None),
    "RFC 9110, 9.1: a method in small letters, which some servers take for another": pseudo(method="delete"),
    "8.3.1 no :scheme": pseudo(scheme=None),
    "8.3.1 no :path": pseudo(path=None),
    "8.3.1 neither :authority nor Host": pseudo(authority=None),
    "8.3.1 an empty :path": pseudo(path=""),
    "8.3.1 a :path that is no path": pseudo(path="a/b"),
    "8.3.1 an absolute :path": pseudo(path="https://db.test/a"),
    "8.3.1 * other than for OPTIONS": pseudo(path="*"),
    "8.3.1 a :path with a space": pseudo(path="/a b HTTP/1.1"),
    "8.3.1 a :path with a line break": pseudo(path="/a\r\nx: y"),
    "8.3.1 a :path with a fragment": pseudo(path="/a#b"),
    "8.3.1 a :path beyond ASCII": pseudo(path="/\xe9"),
    "8.3.1 an empty :authority": pseudo(authority=""),
    "8.3.1 user information in :authority": pseudo(authority="user@db.test"),
    "8.3.1 a path in :authority": pseudo(authority="db.test/x"),
    "8.3.1 a :scheme that is none of HTTP": pseudo(scheme="ftp"),
    "8.3.1 an empty :method": pseudo(method=""),
    "8.3.1 a :method that is no token": pseudo(method="GET /x"),
    "8.3.1 Host twice": get(("host", "db.test"), ("host", "db.test")),
    "8.5 CONNECT with :path": pseudo(method="CONNECT", scheme=None),
    "8.5 CONNECT without a port": headers(1, block([(":method", "CONNECT"), (":authority", "db.test")])),
    "RFC 8441 :protocol without CONNECT": headers(1, block([*GET, (":protocol", "websocket")])),
    **{
        f"RFC 8441 :protocol {protocol!r}": headers(
            1, block([(":method", "CONNECT"), *GET[1:], (":protocol", protocol)])
        )
        for protocol in ("websocket\r\nx: y", "web\0socket", "web socket", "web\xe9", "")
    },
    "RFC 8441 :protocol without :path": headers(
        1, block([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "a")])
    ),
    "8.1.1 content-length twice": post(("content-length", "1"), ("content-length", "1")),
    "8.1.1 content-length of two values": post(("content-length", "1, 1")),
    "8.1.1 content-length below 0": post(("content-length", "-1")),
    "8.1.1 content-length with a sign": post(("content-length", "+1")),
    "8.1.1 content-length in hexadecimal": post(("content-length", "0x1")),
    "8.1.1 content-length without digits": post(("content-length", "")),
    "8.1.1 content-length without a body": get(("content-length", "1")),
}


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_ends_its_stream_and_never_reaches_the_app(wire: bytes) -> None:
    raw = Raw()
    raw.filter.from_client(wire + ALIVE)
    assert outcome(raw.client_gets()) == ("stream", 1, E.PROTOCOL_ERROR)
    assert raw.judge.requests == []
    assert not raw.filter.wants_app
    raw.filter.from_client(headers(3, GOOD, BOTH))
    assert opened(raw.app_gets()) == [1]
    assert not raw.filter.client_finished


#: The twins of the above.
WELL_FORMED = {
    "a plain GET": get(),
    "a value of all that may be": get(("x", "a \t\x80\xff~b")),
    "an empty value": get(("x", "")),
    "te trailers": get(("te", "trailers")),
    "Host alone": headers(1, block([*changed(GET, authority=None), ("host", "db.test")]), BOTH),
    "Host like :authority": get(("host", "DB.test")),
    "OPTIONS *": pseudo(method="OPTIONS", path="*"),
    "CONNECT": headers(1, block([(":method", "CONNECT"), (":authority", "db.test:443")])),
    "content-length of no body": get(("content-length", "0")),
    "content-length of a body": post(("content-length", "3")) + data(1, b"ab") + data(1, b"c", END_STREAM),
    "padding and priority": headers(1, b"\2" + bytes(5) + GOOD + b"xx", BOTH | PADDED | PRIORITY),
    "a block in many frames": headers(1, GOOD[:5], END_STREAM) + frame(Kind.CONTINUATION, END_HEADERS, 1, GOOD[5:]),
    "PRIORITY on any stream": frame(Kind.PRIORITY, 0, 9, bytes(5)) + get(),
    "a frame of an unknown type": frame(0xBE, 0xFF, 1, b"?") + get(),
    "an unknown setting": settings((0x99, 1)) + get(),
    "trailers": post() + data(1, b"x") + headers(1, block([("x-sum", "1")]), BOTH),
}


@pytest.mark.parametrize("wire", WELL_FORMED.values(), ids=WELL_FORMED.keys())
def test_a_well_formed_request_reaches_the_app(wire: bytes) -> None:
    raw = Raw()
    raw.filter.from_client(wire + ALIVE)
    assert outcome(raw.client_gets()) is None
    assert opened(raw.app_gets())[:1] == [1]


#: A limit or a contradiction: the request is answered, not reset.
REFUSED = {
    "Host that differs from :authority": (get(("host", "other.test")), b"400"),
    "a target that is too long": (pseudo(path="/" + "a" * 100), b"414"),
    "too many fields": (get(*[(f"x{number}", "v") for number in range(20)]), b"431"),
    "too many bytes": (get(("x", "a" * 600)), b"431"),
    "an underscore": (get(("x_user", "v")), b"400"),
}


@pytest.mark.parametrize(("wire", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_request_beyond_a_limit_is_answered(wire: bytes, status: bytes) -> None:
    raw = Raw(HttpLimits(header_bytes=600, header_count=20, uri_length=100))
    raw.filter.from_client(wire)
    kind, _, number, payload = next(one for one in raw.client_gets() if one[0] is Kind.HEADERS)
    assert (kind, number) == (Kind.HEADERS, 1)
    assert dict(hpack.Decoder().decode(payload, raw=True))[b":status"] == status
    assert raw.judge.requests == []
    assert not raw.filter.wants_app


def test_limits_are_inclusive() -> None:
    path = "/" + "a" * 99
    request = block([*changed(GET, path=path), ("x", "v")])
    size = sum(len(name) + len(value) + 32 for name, value in [*changed(GET, path=path), ("x", "v")])
    raw = Raw(HttpLimits(header_bytes=size, header_count=5, uri_length=100))
    raw.filter.from_client(headers(1, request, BOTH))
    assert [one.path for one in raw.judge.requests] == [path]


#: After a request that was allowed (stream 1, POST, still open): the violation, the stream and the code.
STREAM = {
    "8.1.1 a body longer than content-length": (
        headers(3, block([*POST, ("content-length", "2")])) + data(3, b"abc"),
        3,
        E.PROTOCOL_ERROR,
    ),
    "8.1.1 a body shorter than content-length": (
        headers(3, block([*POST, ("content-length", "2")])) + data(3, b"a", END_STREAM),
        3,
        E.PROTOCOL_ERROR,
    ),
    "8.1.1 a body shorter than content-length, with trailers": (
        headers(3, block([*POST, ("content-length", "2")])) + data(3, b"a") + headers(3, b"", BOTH),
        3,
        E.PROTOCOL_ERROR,
    ),
    "8.1 trailers that do not end the stream": (headers(1, block([("x", "v")])), 1, E.PROTOCOL_ERROR),
    "8.1 trailers with a pseudo-header field": (headers(1, block([(":path", "/")]), BOTH), 1, E.PROTOCOL_ERROR),
    "RFC 9110 6.5.1 trailers that frame": (headers(1, block([("content-length", "0")]), BOTH), 1, E.PROTOCOL_ERROR),
    "RFC 9110 6.5.1 trailers that authenticate": (
        headers(1, block([("authorization", "Basic x")]), BOTH),
        1,
        E.PROTOCOL_ERROR,
    ),
    "trailers that name a client": (
        headers(1, block([("x-forwarded-client-cert", "URI=x")]), BOTH),
        1,
        E.PROTOCOL_ERROR,
    ),
    "trailers that are too long": (headers(1, block([("x", "v" * 9000)]), BOTH), 1, E.PROTOCOL_ERROR),
    "8.2.2 trailers with connection": (headers(1, block([("connection", "x")]), BOTH), 1, E.PROTOCOL_ERROR),
    "5.1 DATA after END_STREAM": (data(1, b"", END_STREAM) + data(1, b"x"), 1, E.STREAM_CLOSED),
    "5.1 HEADERS after END_STREAM": (data(1, b"", END_STREAM) + headers(1, GOOD, BOTH), 1, E.STREAM_CLOSED),
    "6.3 PRIORITY of the wrong size": (frame(Kind.PRIORITY, 0, 1, bytes(4)), 1, E.FRAME_SIZE_ERROR),
    "6.9 WINDOW_UPDATE of 0": (window_update(1, 0), 1, E.PROTOCOL_ERROR),
    "6.9.1 a window wider than can be": (window_update(1, BIG), 1, E.FLOW_CONTROL_ERROR),
    "8.5 trailers of CONNECT": (
        headers(3, block([(":method", "CONNECT"), (":authority", "a:1")])) + headers(3, block([("x", "v")]), BOTH),
        3,
        E.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("wire", "number", "code"), STREAM.values(), ids=STREAM.keys())
def test_a_violation_on_a_stream_ends_it_at_both_sides(wire: bytes, number: int, code: ErrorCode) -> None:
    raw = Raw()
    raw.filter.from_client(headers(1, GOOD_POST))
    raw.app_gets()
    raw.filter.from_client(wire + ALIVE)
    got = raw.client_gets()
    assert outcome(got) == ("stream", number, code)
    assert (Kind.PING, ACK, 0, b"still on") in got
    at_app = raw.app_gets()
    assert [payload for kind, _, one, payload in at_app if (kind, one) == (Kind.RST_STREAM, number)] == [
        E.CANCEL.to_bytes(4, "big")
    ]


#: After the same request: the violation, and the code of the GOAWAY.
CONNECTION = {
    "4.2 a frame longer than we allow": (b"\x04\x00\x01\x00\x00\x00\x00\x00\x01", E.FRAME_SIZE_ERROR),
    "4.3 a block that is no HPACK": (headers(3, b"\xff" * 20), E.COMPRESSION_ERROR),
    "4.3 a reference beyond the table": (headers(3, b"\xbe"), E.COMPRESSION_ERROR),
    "4.3 a literal that ends early": (headers(3, GOOD[:-3]), E.COMPRESSION_ERROR),
    "4.3 the table's size after a field": (headers(3, GOOD + b"\x20"), E.COMPRESSION_ERROR),
    "4.3 a table larger than allowed": (headers(3, b"\x3f\xe2\x1f" + GOOD), E.COMPRESSION_ERROR),
    "4.3 Huffman code with bad padding": (headers(3, GOOD + b"\0\1x\x81\x00"), E.COMPRESSION_ERROR),
    "4.3 another frame inside a block": (headers(3, GOOD[:3], 0) + ALIVE, E.PROTOCOL_ERROR),
    "5.1 DATA on an idle stream": (data(5, b"x"), E.PROTOCOL_ERROR),
    "5.1 RST_STREAM on an idle stream": (rst_stream(5), E.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE on an idle stream": (window_update(5, 1), E.PROTOCOL_ERROR),
    "5.1 DATA on a stream that the client reset": (rst_stream(1) + data(1, b"x"), E.STREAM_CLOSED),
    "5.1.1 an even number": (headers(2, GOOD, BOTH), E.PROTOCOL_ERROR),
    "5.1.1 a number below the highest": (headers(9, GOOD, BOTH) + headers(3, GOOD, BOTH), E.STREAM_CLOSED),
    "6.1 DATA on stream 0": (data(0, b"x"), E.PROTOCOL_ERROR),
    "6.1 padding as long as the frame": (data(1, b"\4abc", PADDED), E.PROTOCOL_ERROR),
    "6.2 HEADERS on stream 0": (headers(0, GOOD, BOTH), E.PROTOCOL_ERROR),
    "6.4 RST_STREAM of the wrong size": (frame(Kind.RST_STREAM, 0, 1, bytes(3)), E.FRAME_SIZE_ERROR),
    "6.5 SETTINGS on a stream": (frame(Kind.SETTINGS, 0, 1, b""), E.PROTOCOL_ERROR),
    "6.5 SETTINGS of an odd size": (frame(Kind.SETTINGS, 0, 0, bytes(5)), E.FRAME_SIZE_ERROR),
    "6.5.2 INITIAL_WINDOW_SIZE too large": (settings((4, 1 << 31)), E.FLOW_CONTROL_ERROR),
    "6.5.2 MAX_FRAME_SIZE too small": (settings((5, 16383)), E.PROTOCOL_ERROR),
    "6.5.2 ENABLE_PUSH that is no bit": (settings((2, 2)), E.PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE of a client": (frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), E.PROTOCOL_ERROR),
    "6.7 PING of the wrong size": (frame(Kind.PING, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
    "6.8 GOAWAY on a stream": (frame(Kind.GOAWAY, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of 0 for all": (window_update(0, 0), E.PROTOCOL_ERROR),
    "6.9.1 a connection's window wider than can be": (window_update(0, BIG), E.FLOW_CONTROL_ERROR),
    "6.10 CONTINUATION without HEADERS": (frame(Kind.CONTINUATION, 4, 1, b""), E.PROTOCOL_ERROR),
    "10.5 PING without end": (ALIVE * 1001, E.ENHANCE_YOUR_CALM),
    "10.5 SETTINGS without end": (settings() * 1001, E.ENHANCE_YOUR_CALM),
    "10.5 PRIORITY without end": (frame(Kind.PRIORITY, 0, 9, bytes(5)) * 1001, E.ENHANCE_YOUR_CALM),
    "10.5 DATA of nothing without end": (data(1) * 1001, E.ENHANCE_YOUR_CALM),
    "10.5.1 a block without end": (
        headers(3, b"", 0) + frame(Kind.CONTINUATION, 0, 3, b"") * 20,
        E.ENHANCE_YOUR_CALM,
    ),
    "10.5.1 a list far beyond the limit": (
        headers(3, GOOD + b"\x40\1x" + _length(4000) + b"a" * 4000 + b"\xbe" * 100, BOTH),
        E.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("wire", "code"), CONNECTION.values(), ids=CONNECTION.keys())
def test_a_violation_on_the_connection_ends_both_connections(wire: bytes, code: ErrorCode) -> None:
    raw = Raw()
    raw.filter.from_client(headers(1, GOOD_POST))
    raw.app_gets()
    raw.filter.from_client(wire)
    assert outcome([one for one in raw.client_gets() if one[0] is Kind.GOAWAY]) == ("connection", 0, code)
    assert (raw.filter.client_finished, raw.filter.app_finished, raw.filter.reads_client) == (True, True, False)
    got = raw.app_gets()
    assert got[-1][0] is Kind.GOAWAY
    assert Kind.RST_STREAM in [kind for kind, _, number, _ in got if number == 1]


def test_a_client_that_takes_back_too_many_requests_is_cut_off() -> None:
    raw = Raw()
    for number in range(1, 2000, 2):
        raw.filter.from_client(headers(number, GOOD, BOTH) + rst_stream(number))
        raw.app_gets()
        if raw.filter.client_finished:
            break
    assert outcome([one for one in raw.client_gets() if one[0] is Kind.GOAWAY]) == (
        "connection",
        0,
        E.ENHANCE_YOUR_CALM,
    )
    assert len(raw.judge.requests) == 501


def test_a_client_may_take_back_as_many_requests_as_were_answered() -> None:
    raw = Raw()
    for number in range(1, 3000, 4):
        raw.filter.from_client(headers(number, GOOD, BOTH))
        raw.filter.from_app(headers(number, b"\x88", BOTH))
        raw.filter.from_client(headers(number + 2, GOOD, BOTH) + rst_stream(number + 2))
        raw.app_gets()
        raw.client_gets()
    assert not raw.filter.client_finished


def test_resets_of_one_receive_are_bounded() -> None:
    raw = Raw()
    raw.filter.from_client(b"".join(headers(2 * one + 1, GOOD, BOTH) + rst_stream(2 * one + 1) for one in range(150)))
    assert len(raw.judge.requests) == 100
    assert {outcome([one]) for one in raw.client_gets()} - {None} == {
        ("stream", 2 * one + 1, E.REFUSED_STREAM) for one in range(100, 150)
    }


def test_streams_above_the_limit_are_refused_unprocessed() -> None:
    raw = Raw(HttpLimits(streams=2))
    raw.filter.from_client(b"".join(headers(number, GOOD_POST) for number in (1, 3, 5)))
    assert outcome(raw.client_gets()) == ("stream", 5, E.REFUSED_STREAM)
    assert len(raw.judge.requests) == 2


#: The app's violations on the response of stream 1: what the client gets.
BAD_RESPONSE = {
    "8.3.2 no :status": headers(1, block([("x", "v")])),
    "8.3.2 a :status that is no number": headers(1, block([(":status", "ok!")])),
    "8.3.2 a :status of two digits": headers(1, block([(":status", "20")])),
    "8.3.2 :status twice": headers(1, block([(":status", "200"), (":status", "200")])),
    "8.6 101": headers(1, block([(":status", "101")])),
    "8.1 an interim response that ends the stream": headers(1, block([(":status", "100")]), BOTH),
    "8.2.1 a line break": headers(1, block([(":status", "200"), ("x", "a\r\nb")])),
    "8.2.2 connection": headers(1, block([(":status", "200"), ("connection", "close")])),
    "8.1 DATA before the head": data(1, b"x"),
    "8.1.1 content-length twice": headers(1, block([(":status", "200"), *[("content-length", "1")] * 2])),
}


@pytest.mark.parametrize("wire", BAD_RESPONSE.values(), ids=BAD_RESPONSE.keys())
def test_a_malformed_response_becomes_502(wire: bytes) -> None:
    raw = Raw()
    raw.filter.from_client(headers(1, GOOD, BOTH))
    raw.app_gets()
    raw.filter.from_app(wire)
    (head,) = [payload for kind, _, _, payload in raw.client_gets() if kind is Kind.HEADERS]
    assert dict(hpack.Decoder().decode(head, raw=True))[b":status"] == b"502"
    assert outcome(raw.app_gets()) == ("stream", 1, E.PROTOCOL_ERROR)
    assert not raw.filter.client_finished


#: The same once the response has begun.
BROKEN_RESPONSE = {
    "8.1.1 a body longer than content-length": data(1, b"abc"),
    "8.1.1 a body shorter than content-length": data(1, b"a", END_STREAM),
    "8.1 trailers that do not end the stream": data(1, b"ab") + headers(1, block([("x", "v")])),
    "8.1 trailers with :status": data(1, b"ab") + headers(1, block([(":status", "200")]), BOTH),
}


@pytest.mark.parametrize("wire", BROKEN_RESPONSE.values(), ids=BROKEN_RESPONSE.keys())
def test_a_response_that_breaks_a_rule_later_is_reset(wire: bytes) -> None:
    raw = Raw()
    raw.filter.from_client(headers(1, GOOD, BOTH))
    raw.app_gets()
    raw.filter.from_app(headers(1, block([(":status", "200"), ("content-length", "2")])))
    raw.filter.from_app(wire)
    assert outcome(raw.client_gets()) == ("stream", 1, E.INTERNAL_ERROR)
    assert not raw.filter.client_finished


#: The app's violations of the connection: the code that the app gets. The client gets 503 or 502, and GOAWAY.
APP_CONNECTION = {
    "8.4 PUSH_PROMISE": (frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), E.PROTOCOL_ERROR),
    "6.5.2 push allowed": (settings((2, 1)), E.PROTOCOL_ERROR),
    "4.3 no HPACK": (headers(1, b"\xff" * 20), E.COMPRESSION_ERROR),
    "5.1 HEADERS on an idle stream": (headers(3, b"\x88"), E.PROTOCOL_ERROR),
    "RFC 8441 extended CONNECT that is no bit": (settings((8, 2)), E.PROTOCOL_ERROR),
    "RFC 8441 extended CONNECT taken back": (settings((8, 1)) + settings((8, 0)), E.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("wire", "code"), APP_CONNECTION.values(), ids=APP_CONNECTION.keys())
def test_an_app_that_breaks_the_connection_is_left_and_the_client_drained(wire: bytes, code: ErrorCode) -> None:
    raw = Raw()
    raw.filter.from_client(headers(1, GOOD, BOTH))
    raw.app_gets()
    raw.filter.from_app(wire)
    assert outcome([one for one in raw.app_gets() if one[0] is Kind.GOAWAY]) == ("connection", 0, code)
    got = raw.client_gets()
    (head,) = [payload for kind, _, _, payload in got if kind is Kind.HEADERS]
    assert dict(hpack.Decoder().decode(head, raw=True))[b":status"] == b"502"
    assert goaway(BIG) in [frame(kind, flags, number, payload) for kind, flags, number, payload in got]
    assert (raw.filter.app_finished, raw.filter.client_finished) == (True, False)
