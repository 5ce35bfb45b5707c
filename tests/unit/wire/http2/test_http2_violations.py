"""Every rule of RFC 9113 that a peer can break here, and the exact code that then ends the connection or the stream."""

from __future__ import annotations

import hpack
import pytest

from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, ProtocolError, frame
from tests.unit.wire.http2 import ends
from tests.unit.wire.http2.ends import (
    ACK,
    CONNECT,
    END_HEADERS,
    END_STREAM,
    OK,
    PADDED,
    PRIORITY,
    SETTINGS,
    Side,
    a_client,
    a_server,
    connection_error,
    data,
    goaway,
    headers,
    rst_stream,
    settings,
    stream_error,
    window_update,
)

E = ErrorCode
Wire = bytes
BIG = (1 << 31) - 1

#: Violations: the frames that the server has received before, the violating ones, and the code of the GOAWAY.
SERVER_CONNECTION = {
    "4.2 a frame longer than we allow": (b"", b"\x04\x00\x01\x00\x00\x00\x00\x00\x01", E.FRAME_SIZE_ERROR),
    "4.2 a control frame longer than the smallest limit": (
        b"",
        frame(Kind.HEADERS, 4, 1, bytes(16385)),
        E.FRAME_SIZE_ERROR,
    ),
    "4.3 another frame inside a header block": (
        headers(1, CONNECT[:3], 0),
        frame(Kind.PING, 0, 0, bytes(8)),
        E.PROTOCOL_ERROR,
    ),
    "4.3 the block goes on on another stream": (
        headers(1, CONNECT[:3], 0),
        frame(Kind.CONTINUATION, 4, 3, b""),
        E.PROTOCOL_ERROR,
    ),
    "4.3 a block that is no HPACK": (b"", headers(1, b"\xff" * 20), E.COMPRESSION_ERROR),
    "4.3 a block that refers to what no table has": (b"", headers(1, b"\xff\x00"), E.COMPRESSION_ERROR),
    "5.1 DATA on an idle stream": (b"", data(1), E.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE on an idle stream": (b"", window_update(1, 1), E.PROTOCOL_ERROR),
    "5.1 RST_STREAM on an idle stream": (b"", rst_stream(1), E.PROTOCOL_ERROR),
    "5.1 DATA on a stream that the client reset": (headers(1) + rst_stream(1), data(1, b"x"), E.STREAM_CLOSED),
    "5.1.1 HEADERS on a stream that the client reset": (headers(1) + rst_stream(1), headers(1), E.STREAM_CLOSED),
    "5.1.1 a number below the highest": (headers(5), headers(3), E.STREAM_CLOSED),
    "5.1.1 an even number from a client": (b"", headers(2), E.PROTOCOL_ERROR),
    "5.4.1 HEADERS on stream 0": (b"", headers(0), E.PROTOCOL_ERROR),
    "6.1 DATA on stream 0": (b"", data(0, b"x"), E.PROTOCOL_ERROR),
    "6.1 padding as long as the frame": (headers(1), data(1, b"\x04abc", PADDED), E.PROTOCOL_ERROR),
    "6.1 padding without its length": (headers(1), data(1, b"", PADDED), E.PROTOCOL_ERROR),
    "6.2 padding as long as HEADERS": (b"", headers(1, b"\x04abc", END_HEADERS | PADDED), E.PROTOCOL_ERROR),
    "6.2 too little for the priority fields": (b"", headers(1, b"abc", END_HEADERS | PRIORITY), E.FRAME_SIZE_ERROR),
    "6.3 PRIORITY on stream 0": (b"", frame(Kind.PRIORITY, 0, 0, bytes(5)), E.PROTOCOL_ERROR),
    "6.4 RST_STREAM on stream 0": (b"", rst_stream(0), E.PROTOCOL_ERROR),
    "6.4 RST_STREAM of the wrong size": (headers(1), frame(Kind.RST_STREAM, 0, 1, bytes(3)), E.FRAME_SIZE_ERROR),
    "6.5 SETTINGS on a stream": (b"", frame(Kind.SETTINGS, 0, 1, b""), E.PROTOCOL_ERROR),
    "6.5 SETTINGS of an odd size": (b"", frame(Kind.SETTINGS, 0, 0, bytes(5)), E.FRAME_SIZE_ERROR),
    "6.5 an acknowledgement with contents": (b"", frame(Kind.SETTINGS, ACK, 0, bytes(6)), E.FRAME_SIZE_ERROR),
    "6.5.2 ENABLE_PUSH that is no bit": (b"", settings((2, 2)), E.PROTOCOL_ERROR),
    "6.5.2 INITIAL_WINDOW_SIZE too large": (b"", settings((4, 1 << 31)), E.FLOW_CONTROL_ERROR),
    "6.5.2 MAX_FRAME_SIZE too small": (b"", settings((5, 16383)), E.PROTOCOL_ERROR),
    "6.5.2 MAX_FRAME_SIZE too large": (b"", settings((5, 1 << 24)), E.PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE from a client": (headers(1), frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), E.PROTOCOL_ERROR),
    "6.7 PING on a stream": (headers(1), frame(Kind.PING, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    "6.7 PING of the wrong size": (b"", frame(Kind.PING, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
    "6.8 GOAWAY on a stream": (headers(1), frame(Kind.GOAWAY, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    "6.8 GOAWAY that is too short": (b"", frame(Kind.GOAWAY, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
    "6.9 WINDOW_UPDATE of 0 for the connection": (b"", window_update(0, 0), E.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of the wrong size": (b"", frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3)), E.FRAME_SIZE_ERROR),
    "6.9.1 the connection's window wider than can be": (b"", window_update(0, BIG), E.FLOW_CONTROL_ERROR),
    "6.9.2 streams' windows wider than can be by SETTINGS": (
        headers(1) + window_update(1, BIG - (1 << 18)),
        settings((4, (1 << 18) + 1)),
        E.FLOW_CONTROL_ERROR,
    ),
    "6.10 CONTINUATION without HEADERS": (b"", frame(Kind.CONTINUATION, 4, 1, b""), E.PROTOCOL_ERROR),
    "10.5.1 a header block without end": (
        headers(1, b"", 0),
        frame(Kind.CONTINUATION, 0, 1, b"") * 20,
        E.ENHANCE_YOUR_CALM,
    ),
    "10.5.1 a header list that is too long": (
        b"",
        headers(1, hpack.Encoder().encode([("x", "a" * 3000)] * 10, huffman=False)),
        E.ENHANCE_YOUR_CALM,
    ),
    "10.5 PING without end": (b"", frame(Kind.PING, 0, 0, bytes(8)) * 1001, E.ENHANCE_YOUR_CALM),
    "10.5 SETTINGS without end": (b"", settings((4, 1), (4, 2)) * 1001, E.ENHANCE_YOUR_CALM),
    "10.5 PRIORITY without end": (b"", frame(Kind.PRIORITY, 0, 9, bytes(5)) * 1001, E.ENHANCE_YOUR_CALM),
    "10.5 DATA of nothing without end": (headers(1), data(1) * 1001, E.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize(("before", "wire", "code"), SERVER_CONNECTION.values(), ids=SERVER_CONNECTION.keys())
def test_a_server_ends_the_connection(before: Wire, wire: Wire, code: ErrorCode) -> None:
    assert connection_error(a_server(before), wire)[0] is code


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSX", b"\x16\x03\x01"])
def test_3_4_bytes_other_than_the_preface_end_the_connection(first: bytes) -> None:
    assert connection_error(Side(False), first) == (
        E.PROTOCOL_ERROR,
        "wanted the client's preface of HTTP/2, got something else",
    )


@pytest.mark.parametrize("first", [frame(Kind.PING, 0, 0, bytes(8)), frame(Kind.SETTINGS, ACK, 0, b""), headers(1)])
def test_3_4_the_first_frame_has_to_be_settings(first: bytes) -> None:
    words = "wanted SETTINGS as the first frame, got another"
    assert connection_error(Side(False), PREFACE + first) == (E.PROTOCOL_ERROR, words)
    assert connection_error(Side(True), first) == (E.PROTOCOL_ERROR, words)


#: A server's violations towards a client that has opened streams 1 and 3.
CLIENT_CONNECTION = {
    "5.1 HEADERS on a stream that was never opened": (b"", headers(5, OK), E.PROTOCOL_ERROR),
    "5.1.1 HEADERS on a stream of the server's": (b"", headers(2, OK), E.PROTOCOL_ERROR),
    "5.1 DATA on a stream that the server reset": (rst_stream(1), data(1, b"x"), E.STREAM_CLOSED),
    "5.1 DATA on an idle stream": (b"", data(5), E.PROTOCOL_ERROR),
    "6.5.2 a server that allows push": (b"", settings((2, 1)), E.PROTOCOL_ERROR),
    "8.4 PUSH_PROMISE though we take none": (b"", frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), E.PROTOCOL_ERROR),
    "4.3 an answer that is no HPACK": (b"", headers(1, b"\xff" * 20), E.COMPRESSION_ERROR),
}


@pytest.mark.parametrize(("before", "wire", "code"), CLIENT_CONNECTION.values(), ids=CLIENT_CONNECTION.keys())
def test_a_client_ends_the_connection(before: Wire, wire: Wire, code: ErrorCode) -> None:
    client = a_client(2)
    client.hears(before)
    assert connection_error(client, wire)[0] is code


def block(*fields: tuple[str, str]) -> bytes:
    return hpack.Encoder().encode(fields, huffman=False)


M, A, P, S = (":method", "CONNECT"), (":authority", "a:1"), (":path", "/"), (":scheme", "https")
GET = (":method", "GET")
#: Malformed requests (8.1.1), each a stream error PROTOCOL_ERROR.
MALFORMED = {
    "8.5 CONNECT with :path": block(M, A, P),
    "8.5 CONNECT with :scheme": block(M, A, S),
    "8.5 CONNECT without :authority": block(M),
    "8.5 CONNECT with an empty :authority": block(M, (":authority", "")),
    "8.3.1 no :method": block(A),
    "8.3.1 GET without :path": block(GET, S, A),
    "8.3.1 GET with an empty :path": block(GET, S, A, (":path", "")),
    "8.3 :method twice": block(M, M, A),
    "8.3 a pseudo-header after a field": block(M, ("x", "y"), A),
    "8.3 an unknown pseudo-header": block(M, A, (":protocol", "websocket")),
    "8.3 a response's pseudo-header": block(M, A, (":status", "200")),
    "8.2.1 a name in upper case": block(M, A, ("Via", "x")),
    "8.2.1 a name with a space": block(M, A, ("a b", "x")),
    "8.2.1 a name with a colon": block(M, A, ("a:b", "x")),
    "8.2.1 an empty name": block(M, A, ("", "x")),
    "8.2.1 a line break in a value": block(M, A, ("x", "a\r\nb")),
    "8.2.1 a NUL in a value": block(M, A, ("x", "a\0b")),
    "8.2.1 a space before a value": block(M, A, ("x", " a")),
    "8.2.2 connection": block(M, A, ("connection", "close")),
    "8.2.2 transfer-encoding": block(M, A, ("transfer-encoding", "chunked")),
    "8.2.2 upgrade": block(M, A, ("upgrade", "h2c")),
    "8.2.2 te of other than trailers": block(M, A, ("te", "gzip")),
}


@pytest.mark.parametrize("request_block", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_reset_and_its_twin_is_heard(request_block: bytes) -> None:
    server = a_server()
    assert stream_error(server, headers(1, request_block)) == (1, E.PROTOCOL_ERROR)
    assert [event[:3] for event in server.heard.events] == [("refused", 1, E.PROTOCOL_ERROR)]
    server.hears(headers(3, block(M, A, ("te", "trailers"), ("x-request-id", "1"))))
    assert server.heard.events[1:] == [("requested", 3, b"CONNECT", b"a:1", False)]


#: Violations that end one stream of a server, whose stream 1 is open, and the code of the RST_STREAM.
SERVER_STREAM = {
    "5.1 DATA after END_STREAM": (data(1, b"", END_STREAM), data(1, b"x"), E.STREAM_CLOSED),
    "5.1 HEADERS after END_STREAM": (data(1, b"", END_STREAM), headers(1), E.STREAM_CLOSED),
    "6.3 PRIORITY of the wrong size": (b"", frame(Kind.PRIORITY, 0, 1, bytes(4)), E.FRAME_SIZE_ERROR),
    "6.9 WINDOW_UPDATE of 0": (b"", window_update(1, 0), E.PROTOCOL_ERROR),
    "6.9.1 a window wider than can be": (b"", window_update(1, BIG), E.FLOW_CONTROL_ERROR),
    "8.5 HEADERS on a connected stream": (b"", headers(1), E.PROTOCOL_ERROR),
    "8.5 trailers on a connected stream": (
        b"",
        headers(1, block(("x", "y")), END_HEADERS | END_STREAM),
        E.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("before", "wire", "code"), SERVER_STREAM.values(), ids=SERVER_STREAM.keys())
def test_a_server_ends_the_stream_and_no_other(before: Wire, wire: Wire, code: ErrorCode) -> None:
    server = a_server(headers(1), before)
    assert stream_error(server, wire) == (1, code)
    assert server.heard.events[1:] == [("broken", 1, code, False)]
    server.hears(headers(3) + data(3, b"still here"))
    assert server.heard.data[3] == b"still here"


def test_6_9_1_more_than_the_streams_window_ends_the_stream() -> None:
    server = Side(False, crediting=False)
    server.hears(PREFACE + SETTINGS + headers(1))
    full = data(1, bytes(1 << 14)) * 16
    server.hears(full)
    assert len(server.heard.data[1]) == 1 << 18, "the whole window is taken"
    assert stream_error(server, data(1, b"x")) == (1, E.FLOW_CONTROL_ERROR)


def test_6_9_1_more_than_the_connections_window_ends_the_connection() -> None:
    server = Side(False, crediting=False)
    server.hears(PREFACE + SETTINGS + headers(1) + headers(3))
    # Memory is short, by this connection and others: no window is returned.
    server.memory.kept, server.http.kept = server.memory.size, ends.BOUNDS.connection_window
    server.hears(data(1, bytes(1 << 14)) * 16 + data(3, bytes(1 << 14)) * 8)
    assert server.http.may_receive == 0, "the whole window is taken"
    assert server.stream(3).may_receive > 0
    assert connection_error(server, data(3, b"x"))[0] is E.FLOW_CONTROL_ERROR


def test_5_1_2_one_stream_too_many_is_refused_and_can_be_opened_later() -> None:
    server = a_server(*(headers(number) for number in range(1, 201, 2)))
    assert len(server.http.streams) == 100
    assert stream_error(server, headers(201)) == (201, E.REFUSED_STREAM)
    assert server.heard.events[-1][3] == "stream limit reached (limits.tunnel_streams=100)"
    server.hears(rst_stream(1) + headers(203))
    assert server.heard.events[-1] == ("requested", 203, b"CONNECT", ends.HERE, False)


def test_10_5_requests_for_answers_that_the_peer_does_not_read_end_the_connection() -> None:
    server, pings = a_server(), frame(Kind.PING, 0, 0, bytes(8)) * 500
    while len(server.http.outgoing) + len(pings) <= 1 << 20:
        server.hears(pings)
    with pytest.raises(ProtocolError, match="requests responses and does not read them"):
        server.hears(pings)


def test_10_5_1_streams_that_are_reset_at_once_open_no_more_connections_than_there_may_be_streams() -> None:
    server = a_server()
    server.hears(b"".join(headers(number) + rst_stream(number) for number in range(1, 1001, 2)))
    asked = [event for event in server.heard.events if event[0] == "requested"]
    assert len(asked) == 100
    refused = [number for kind, _, number, _ in ends.frames_of(server.says()) if kind is Kind.RST_STREAM]
    assert refused == list(range(201, 1001, 2))
    told = [event[1:] for event in server.heard.events if event[0] == "refused"]
    assert told == [(number, E.REFUSED_STREAM, "the peer reset more than 100 streams at once") for number in refused]
    server.hears(headers(1001))
    assert server.heard.events[-1] == ("requested", 1001, b"CONNECT", ends.HERE, False)


#: Violations that end one stream of a client, whose stream 1 is open and, if so marked, accepted.
CLIENT_STREAM = {
    "8.1 DATA before the answer": (b"", data(1, b"x"), E.PROTOCOL_ERROR),
    "8.3.2 an answer without :status": (b"", headers(1, block(("x", "y"))), E.PROTOCOL_ERROR),
    "8.3.2 a :status that is no number": (b"", headers(1, block((":status", "abc"))), E.PROTOCOL_ERROR),
    "8.3.2 a :status of two digits": (b"", headers(1, block((":status", "99"))), E.PROTOCOL_ERROR),
    "8.3.2 an answer with :path": (b"", headers(1, block((":status", "200"), P)), E.PROTOCOL_ERROR),
    "8.6 switching protocols": (b"", headers(1, block((":status", "101"))), E.PROTOCOL_ERROR),
    "8.1 an interim answer that is the last": (
        b"",
        headers(1, block((":status", "103")), END_HEADERS | END_STREAM),
        E.PROTOCOL_ERROR,
    ),
    "8.5 HEADERS on a connected stream": (headers(1, OK), headers(1, OK), E.PROTOCOL_ERROR),
    "5.1 DATA after END_STREAM": (headers(1, OK) + data(1, b"", END_STREAM), data(1, b"x"), E.STREAM_CLOSED),
}


@pytest.mark.parametrize(("before", "wire", "code"), CLIENT_STREAM.values(), ids=CLIENT_STREAM.keys())
def test_a_client_ends_the_stream_and_no_other(before: Wire, wire: Wire, code: ErrorCode) -> None:
    client = a_client(2)
    client.hears(before)
    assert stream_error(client, wire) == (1, code)
    assert client.heard.events[-1] == ("broken", 1, code, False)
    client.hears(headers(3, OK) + data(3, b"still here"))
    assert client.heard.data[3] == b"still here"


#: Unusual but permitted frames, on a server whose stream 1 is open.
FINE = {
    "4.1 an unknown frame type": frame(0x77, 0xFF, 1, b"anything"),
    "5.1 PRIORITY on an idle stream": frame(Kind.PRIORITY, 0, 99, bytes(5)),
    "5.1 WINDOW_UPDATE on a closed stream": rst_stream(1) + window_update(1, 1),
    "5.1 RST_STREAM on a closed stream": rst_stream(1) * 2,
    "6.2 HEADERS with padding and priority": headers(
        3, b"\x02" + bytes(5) + CONNECT + b"\0\0", END_HEADERS | PADDED | PRIORITY
    ),
    "6.5.2 an unknown setting": settings((0x99, 5)),
    "6.10 a block in three frames": headers(3, CONNECT[:2], 0)
    + frame(Kind.CONTINUATION, 0, 3, CONNECT[2:5])
    + frame(Kind.CONTINUATION, 4, 3, CONNECT[5:]),
    "10.5 as much that carries nothing as anybody could have to say": (settings() + frame(Kind.PING, 0, 0, bytes(8)))
    * 400,
    "7 an unknown error code": rst_stream(1, 0xFFFF),
    "6.8 GOAWAY of a client": goaway(0),
}


@pytest.mark.parametrize("wire", FINE.values(), ids=FINE.keys())
def test_the_connection_goes_on(wire: bytes) -> None:
    server = a_server(headers(1))
    server.hears(wire)
    server.hears(frame(Kind.PING, 0, 0, b"hellohel"))
    assert server.says().endswith(frame(Kind.PING, ACK, 0, b"hellohel"))
