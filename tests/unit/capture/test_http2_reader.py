"""HTTP/2 is read from the frames of both sides: requests, gRPC, resets, tunnels; a lost byte ends one direction."""

from __future__ import annotations

import struct

import hpack
import pytest

from meshtls.capture.application import MAX_DEPTH, Conversation, Spoken
from meshtls.capture.exchange import GrpcCall, HttpExchange, InsideBudget
from meshtls.capture.http2_reader import Goaway
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PADDED, PREFACE, Kind, frame, goaway_frame
from meshtls.wire.side import Side

C, S = Side.CLIENT, Side.SERVER
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/a?key=1"), (":authority", "web.test")]
GRPC = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.v1.Cart/Add"),
    (":authority", "cart.test"),
    ("content-type", "application/grpc+proto"),
    ("authorization", "Bearer hidden"),
]
HTTP1 = b"GET /in HTTP/1.1\r\nHost: in.test\r\n\r\n"
LOST = (
    "HTTP/2: bytes are lost: no later request or response of this side is read, since the meaning of its fields is lost"
    " too"
)
HTTP1_OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Peer:
    """One side's frames, with a table of its own."""

    def __init__(self, side: Side, talk: Conversation) -> None:
        self.side, self.talk = side, talk
        self.encoder = hpack.Encoder()
        self.cut = 0
        if side is C:
            self.send(PREFACE)
        self.send(frame(Kind.SETTINGS, 0, 0, b""))

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), self.cut or len(data)):
            self.talk.feed(self.side, data[at : at + self.cut] if self.cut else data, 1)

    def head(self, stream: int, fields: list[tuple[str, str]], *, end: bool = False, split: int = 0) -> None:
        block = self.encoder.encode(fields)
        flags = END_STREAM if end else 0
        if split:
            self.send(frame(Kind.HEADERS, flags, stream, block[:split]))
            self.send(frame(Kind.CONTINUATION, END_HEADERS, stream, block[split:]))
        else:
            self.send(frame(Kind.HEADERS, flags | END_HEADERS, stream, block))

    def body(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.send(frame(Kind.DATA, END_STREAM if end else 0, stream, data))


def peers(budget: InsideBudget | None = None) -> tuple[Conversation, Peer, Peer]:
    talk = Conversation(budget=budget)
    return talk, Peer(C, talk), Peer(S, talk)


def only(talk: Conversation) -> HttpExchange:
    (one,) = talk.exchanges
    return one


def reasons(talk: Conversation) -> list[tuple[Side, str]]:
    return [(trouble.side, trouble.reason) for _, trouble in talk.all_troubles()]


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("split", [0, 3])
def test_requests_share_a_table_and_are_read_in_any_pieces(cut: int, split: int) -> None:
    talk, client, server = peers()
    client.cut = server.cut = cut
    for stream in (1, 3):
        client.head(stream, GET, end=True, split=split if stream == 1 else 0)
        server.head(stream, [(":status", "103"), ("link", "x")])
        server.head(stream, [(":status", "200"), ("set-cookie", "hidden")])
        server.body(stream, b"hello", end=True)
    assert (talk.spoken, reasons(talk)) == (Spoken.HTTP2, [])
    for one, stream in zip(talk.exchanges, (1, 3), strict=True):
        assert (one.stream, one.method, one.authority, one.path) == (
            stream,
            "GET",
            "web.test",
            "/a?(5 bytes)",
        )
        assert (one.status, one.response_bytes, one.end) == (200, 5, "complete")
    assert "hidden" not in repr(talk.exchanges)


def test_a_call_of_grpc_is_named_with_the_status_in_its_trailers() -> None:
    talk, client, server = peers()
    client.head(1, GRPC)
    client.body(1, b"\0\0\0\0\2hi", end=True)
    server.head(1, [(":status", "200"), ("content-type", "application/grpc")])
    server.head(1, [("grpc-status", "7"), ("grpc-message", "not%20you\x1b")], end=True)
    assert only(talk).grpc == GrpcCall("shop.v1.Cart", "Add", 7, "not you\\x1b")
    assert only(talk).request_bytes == 7
    assert "hidden" not in repr(only(talk))


def test_the_status_of_grpc_may_be_in_the_only_head() -> None:
    talk, client, server = peers()
    client.head(1, GRPC, end=True)
    server.head(1, [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")], end=True)
    assert only(talk).grpc == GrpcCall("shop.v1.Cart", "Add", 12)


def test_a_larger_table_is_allowed_where_the_peer_asked_for_it() -> None:
    talk, client, server = peers()
    server.send(frame(Kind.SETTINGS, 0, 0, struct.pack(">HL", 1, 16384)))
    client.encoder.header_table_size = 16384
    client.head(1, GET, end=True)
    assert reasons(talk) == []
    assert only(talk).method == "GET"
    # Without that it is an error of the connection (RFC 7541, section 6.3).
    talk, client, server = peers()
    client.encoder.header_table_size = 16384
    client.head(1, GET, end=True)
    assert [side for side, _ in reasons(talk)] == [C]


def test_resets_and_goaways_are_told() -> None:
    talk, client, server = peers()
    for stream in (1, 3, 5):
        client.head(stream, GET)
    client.send(frame(Kind.RST_STREAM, 0, 1, struct.pack(">L", 8)))
    server.send(frame(Kind.RST_STREAM, 0, 3, struct.pack(">L", 0xFF)))
    server.head(5, [(":status", "200")], end=True)
    server.send(frame(Kind.RST_STREAM, 0, 5, struct.pack(">L", 0)))
    server.send(goaway_frame(11, 5, "calm"))
    assert [one.end for one in talk.exchanges] == [
        "reset by the client: CANCEL",
        "reset by the server: code 255",
        "complete",
    ]
    assert talk.http2 is not None
    assert talk.http2.goaways == [Goaway(S, 1, 5, "ENHANCE_YOUR_CALM")]


def reset(stream: int, code: int = 8) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, struct.pack(">L", code))


def promise(stream: int, promised: int, block: bytes) -> bytes:
    return frame(Kind.PUSH_PROMISE, END_HEADERS, stream, struct.pack(">L", promised) + block)


def answer(server: Peer, stream: int, body: bytes = b"hello") -> None:
    server.head(stream, [(":status", "200"), ("x-number", str(stream))])
    server.body(stream, body, end=True)


def open_streams(talk: Conversation) -> int:
    return int(repr(talk.http2).split()[-4])


def test_a_response_on_its_way_to_a_cancelled_request_is_no_request() -> None:
    talk, client, server = peers(InsideBudget(exchanges=1 << 16))
    for stream in range(1, 4401, 2):
        client.head(stream, GET, end=True)
        client.send(reset(stream))
        answer(server, stream)
    client.head(4401, GET, end=True)
    answer(server, 4401)
    assert reasons(talk) == []
    ends = [(one.stream, one.end, one.status) for one in talk.exchanges]
    cancelled = [(stream, "reset by the client: CANCEL", 0) for stream in range(1, 4401, 2)]
    assert ends == [*cancelled, (4401, "complete", 200)]
    assert open_streams(talk) == 0


@pytest.mark.parametrize(
    "late", ["trailers", "informational", "body of the client", "trailers of the client", "second reset"]
)
def test_nothing_after_a_reset_changes_its_exchange_or_opens_another(late: str) -> None:
    talk, client, server = peers()
    client.head(1, GET)
    server.send(reset(1, 7))
    if late == "trailers":
        server.head(1, [("grpc-status", "0")], end=True)
    elif late == "informational":
        server.head(1, [(":status", "103")])
    elif late == "body of the client":
        client.body(1, b"late", end=True)
    elif late == "trailers of the client":
        client.head(1, [("x-sum", "1")], end=True)
    else:
        client.send(reset(1, 8))
    client.head(3, GET, end=True)
    answer(server, 3)
    assert [(one.stream, one.end, one.request_bytes) for one in talk.exchanges] == [
        (1, "reset by the server: REFUSED_STREAM", 0),
        (3, "complete", 0),
    ]
    assert (reasons(talk), open_streams(talk)) == ([], 0)


@pytest.mark.parametrize(
    ("side", "code", "end"),
    [
        (S, 0, "complete"),
        (C, 8, "complete"),
        (S, 2, "reset by the server: INTERNAL_ERROR"),
        (C, 1, "reset by the client: PROTOCOL_ERROR"),
    ],
)
def test_a_reset_after_the_whole_response_counts_if_it_tells_an_error(side: Side, code: int, end: str) -> None:
    talk, client, server = peers()
    client.head(1, GET)
    answer(server, 1)
    (client if side is C else server).send(reset(1, code))
    assert (only(talk).end, only(talk).status) == (end, 200)


def test_pushed_responses_are_exchanges_that_end() -> None:
    talk, client, server = peers(InsideBudget(exchanges=1 << 16))
    client.head(1, GET)
    for promised in range(2, 4202, 2):
        server.send(promise(1, promised, server.encoder.encode(GET)))
        if promised == 4:
            client.send(reset(4))
        answer(server, promised)
    answer(server, 1)
    client.body(1, b"", end=True)
    assert reasons(talk) == []
    assert [one.stream for one in talk.exchanges] == [1, *range(2, 4202, 2)]
    assert {(one.method, one.path) for one in talk.exchanges} == {("GET", "/a?(5 bytes)")}
    assert [one.stream for one in talk.exchanges if one.end != "complete"] == [4]
    assert (talk.exchanges[2].end, talk.exchanges[2].status) == ("reset by the client: CANCEL", 0)
    assert open_streams(talk) == 0


def test_a_pushed_response_without_its_promise_is_ignored() -> None:
    talk, client, server = peers()
    client.head(1, GET, end=True)
    answer(server, 2)
    answer(server, 1)
    assert (only(talk).stream, only(talk).end, reasons(talk)) == (1, "complete", [])


def test_requests_above_the_last_stream_of_a_goaway_are_told() -> None:
    talk, client, server = peers()
    for stream in (1, 3, 5):
        client.head(stream, GET, end=True)
    server.send(goaway_frame(0, (1 << 31) - 1))
    server.send(goaway_frame(11, 3))
    client.head(7, GET, end=True)
    answer(server, 1)
    answer(server, 3)
    refused = "not handled, GOAWAY of the server: ENHANCE_YOUR_CALM"
    assert [(one.stream, one.end) for one in talk.exchanges] == [
        (1, "complete"),
        (3, "complete"),
        (5, refused),
        (7, refused),
    ]
    # A server that answers nevertheless has handled it.
    answer(server, 5)
    assert talk.exchanges[2].end == "complete"


def test_a_goaway_of_the_client_is_about_pushes_only() -> None:
    talk, client, server = peers()
    client.head(1, GET, end=True)
    client.send(goaway_frame(0, 0))
    server.send(promise(1, 2, server.encoder.encode(GET)))
    answer(server, 1)
    assert [one.end for one in talk.exchanges] == ["complete", "not handled, GOAWAY of the client: NO_ERROR"]


@pytest.mark.parametrize(("lost", "end"), [(C, "complete"), (S, "not read to its end")])
def test_any_number_of_streams_passes_while_one_direction_is_not_read(lost: Side, end: str) -> None:
    talk, client, server = peers(InsideBudget(exchanges=1 << 16))
    client.head(1, GET, end=True)
    talk.gap(lost, 10)
    for stream in range(3, 4402, 2):
        client.head(stream, GET, end=True)
        answer(server, stream)
    assert reasons(talk) == [(lost, LOST)]
    assert [(one.stream, one.end) for one in talk.exchanges][1:] == [(stream, end) for stream in range(3, 4402, 2)]
    assert open_streams(talk) == (1 if lost is C else 0)


def test_a_response_that_was_captured_before_its_request_is_of_one_exchange() -> None:
    talk, client, server = peers()
    answer(server, 1)
    client.head(1, GET, end=True)
    assert (only(talk).path, only(talk).status, only(talk).end) == ("/a?(5 bytes)", 200, "complete")


def test_the_response_to_a_request_that_was_upgraded_is_on_stream_1() -> None:
    talk, client, server = peers()
    client.head(3, GET, end=True)
    answer(server, 1)
    answer(server, 3)
    assert [(one.stream, one.status) for one in talk.exchanges] == [(3, 200), (1, 200)]


def test_a_tunnel_is_a_conversation_of_its_own() -> None:
    talk, client, server = peers()
    client.head(1, [(":method", "CONNECT"), (":authority", "10.0.0.1:80")])
    client.send(frame(Kind.DATA, PADDED, 1, b"\x03" + HTTP1 + b"\0\0\0"))
    server.head(1, [(":status", "200")])
    server.body(1, HTTP1_OK)
    client.body(1, b"", end=True)
    one = only(talk)
    assert isinstance(one.tunnel, Conversation)
    assert (only(one.tunnel).path, only(one.tunnel).status, one.status) == ("/in", 204, 200)
    assert [inner.depth for inner in talk.walk()] == [0, 1]


def test_tunnels_in_tunnels_are_read_to_a_depth() -> None:
    talk = Conversation()

    class Inner(Peer):
        def send(self, data: bytes) -> None:
            for _ in range(self.level):
                data = frame(Kind.DATA, 0, 1, data)
            talk.feed(C, data, 1)

        def __init__(self, level: int) -> None:
            self.level = level
            super().__init__(C, talk)

    for level in range(MAX_DEPTH):
        Inner(level).head(1, [(":method", "CONNECT"), (":authority", f"{level}.test:1")])
    assert [one.depth for one in talk.walk()] == list(range(MAX_DEPTH))
    assert [only(one).authority for one in talk.walk()] == [f"{level}.test:1" for level in range(MAX_DEPTH)]


def test_a_budget_bounds_the_tunnels_that_are_read() -> None:
    talk, client, _ = peers(InsideBudget(conversations=2))
    for stream in (1, 3, 5):
        client.head(stream, [(":method", "CONNECT"), (":authority", "a.test:1")])
    assert [one.tunnel is not None for one in talk.exchanges] == [True, True, False]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff"),
            "the peer's header block is not valid HPACK: an integer in it ends early",
        ),
        (frame(Kind.HEADERS, END_HEADERS, 0, b"\x82"), "wanted HEADERS of a stream, got stream 0"),
        (frame(Kind.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0"), "wanted the number of the promised stream, got less"),
        (frame(Kind.CONTINUATION, END_HEADERS, 1, b"\x82"), "wanted CONTINUATION after HEADERS only, got it alone"),
        (
            frame(Kind.HEADERS, 0, 1, b"\x82") + frame(Kind.PING, 0, 0, bytes(8)),
            "wanted the rest of a header block, got another frame",
        ),
        (frame(Kind.DATA, PADDED, 1, b"\x05ab"), "wanted padding that is shorter than its frame, got more"),
        (
            frame(Kind.HEADERS, 0, 1, bytes(16384)) + frame(Kind.CONTINUATION, 0, 1, bytes(16384)) * 4,
            "wanted a header block of at most 65536 bytes",
        ),
    ],
)
def test_a_frame_that_breaks_a_rule_ends_its_direction_only(bad: bytes, reason: str) -> None:
    talk, client, server = peers()
    client.head(1, GET, end=True)
    client.send(bad)
    client.head(3, GET, end=True)
    server.head(1, [(":status", "200")], end=True)
    ((side, told),) = reasons(talk)
    assert (side, told.startswith(f"HTTP/2: {reason}")) == (C, True), told
    assert (only(talk).status, only(talk).end) == (200, "complete")


def test_lost_bytes_end_a_direction_and_what_is_in_its_tunnels() -> None:
    talk, client, server = peers()
    client.head(1, GET, end=True)
    talk.gap(S, 100)
    server.head(1, [(":status", "200")], end=True)
    client.head(3, GET, end=True)
    assert reasons(talk) == [(S, LOST)]
    assert [one.status for one in talk.exchanges] == [0, 0]


def test_a_wrong_preface_is_told() -> None:
    talk = Conversation()
    talk.feed(C, PREFACE[:-1] + b"x" + bytes(30), 1)
    assert talk.spoken is not Spoken.HTTP2


def test_open_streams_are_bounded() -> None:
    talk, client, _ = peers(InsideBudget(exchanges=10))
    for stream in range(1, 4200, 2):
        client.head(stream, GET)
    assert reasons(talk) == [(C, "HTTP/2: wanted at most 2048 open streams, got more")]
    assert len(talk.exchanges) == 10
