"""HTTP/1.1 is read from both sides; what can't be read ends one direction, and no header is kept."""

from __future__ import annotations

import pytest

from meshtls.capture.application import Conversation, Spoken
from meshtls.capture.events import Trouble
from meshtls.capture.exchange import HttpExchange, InsideBudget
from meshtls.wire.side import Side

C, S = Side.CLIENT, Side.SERVER
GET = (
    b"GET /a?token=abc HTTP/1.1\r\nHost: web.test\r\n"
    b"Authorization: Bearer hidden\r\nCookie: id=hidden\r\nX-A: b\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: id=hidden\r\n\r\nhello"
POST = b"POST /b HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
Flight = tuple[Side, bytes]


def read(*flights: Flight, cut: int = 0) -> Conversation:
    talk = Conversation()
    now = 0
    for side, data in flights:
        for at in range(0, len(data), cut or len(data)):
            now += 1
            talk.feed(side, data[at : at + cut] if cut else data, now)
    return talk


def only(talk: Conversation) -> HttpExchange:
    (one,) = talk.exchanges
    return one


def reasons(talk: Conversation) -> list[tuple[Side, int, str]]:
    return [(one.side, one.offset, one.reason) for _, one in talk.all_troubles()]


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_request_and_its_response_are_read_without_their_secrets(cut: int) -> None:
    talk = read((C, GET), (S, OK), cut=cut)
    assert (talk.spoken, reasons(talk)) == (Spoken.HTTP1, [])
    one = only(talk)
    assert (one.method, one.authority, one.path, one.status, one.end) == (
        "GET",
        "web.test",
        "/a?(9 bytes)",
        200,
        "complete",
    )
    assert (one.request_bytes, one.response_bytes) == (0, 5)
    assert "hidden" not in repr(one)


@pytest.mark.parametrize("cut", [0, 1])
def test_bodies_in_chunks_and_pipelined_requests_are_followed(cut: int) -> None:
    chunks = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    talk = read((C, POST + GET + POST), (S, b"HTTP/1.1 100 Continue\r\n\r\n" + chunks + OK + OK), cut=cut)
    assert reasons(talk) == []
    assert [(one.path, one.status, one.request_bytes, one.response_bytes) for one in talk.exchanges] == [
        ("/b", 201, 7, 5),
        ("/a?(9 bytes)", 200, 0, 5),
        ("/b", 200, 7, 5),
    ]


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    talk = read((C, GET), (S, b"HTTP/1.1 200 OK\r\n\r\nall of this"))
    assert only(talk).end == ""
    talk.end(S)
    assert (only(talk).end, only(talk).response_bytes, reasons(talk)) == ("complete", 11, [])


def test_a_malformed_request_ends_the_clients_direction_only() -> None:
    bad = b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    talk = read((C, GET), (S, OK), (C, bad), (S, OK))
    assert reasons(talk) == [(C, len(GET), "HTTP/1.1: wanted one host at most, got several")]
    # The server goes on: its answer has no request that was read.
    assert [(one.method, one.status) for one in talk.exchanges] == [("GET", 200), ("", 200)]


def test_a_malformed_response_ends_the_servers_direction_only() -> None:
    talk = read((C, GET), (S, b"HTTP/1.1 two hundred\r\n\r\n"), (C, POST))
    assert [(side, at) for side, at, _ in reasons(talk)] == [(S, 0)]
    assert [one.method for one in talk.exchanges] == ["GET", "POST"]


def test_lost_bytes_of_a_body_are_counted_and_the_next_head_is_found() -> None:
    talk = read((C, GET), (S, OK[:-4]))
    talk.gap(S, 3)
    talk.feed(S, b"o" + OK, 9)
    first, second = talk.exchanges
    assert (first.response_bytes, first.end, second.status) == (5, "complete", 200)
    assert reasons(talk) == []


def test_lost_bytes_of_a_head_end_the_direction() -> None:
    talk = read((C, GET), (S, OK[:10]))
    talk.gap(S, 3)
    talk.feed(S, OK, 9)
    assert reasons(talk) == [(S, 10, "HTTP/1.1: bytes are lost: where the next message begins is unknown")]
    talk.feed(C, POST, 10)
    assert len(talk.exchanges) == 2


@pytest.mark.parametrize(
    ("waiting", "after", "statuses", "reason"),
    [
        (1, OK, [200], ""),
        (2, OK, [0, 0], "HTTP/1.1: bytes are lost: where the next message begins is unknown"),
        (1, b"the rest of a body\r\n\r\n", [0], "HTTP/1.1: wanted a status line"),
    ],
)
def test_after_an_unknown_loss_a_response_is_that_of_the_only_request_that_waits(
    waiting: int, after: bytes, statuses: list[int], reason: str
) -> None:
    talk = read((C, GET * waiting))
    talk.gap(S, 0)
    talk.feed(S, after, 9)
    assert [one.status for one in talk.exchanges] == statuses
    assert [told[: len(reason)] for _, _, told in reasons(talk)] == ([reason] if reason else [])


def test_an_end_within_a_message_is_told() -> None:
    talk = read((C, GET), (S, OK[:-1]))
    talk.end(S)
    assert reasons(talk) == [(S, len(OK) - 1, "HTTP/1.1: the connection ends within a message")]
    assert only(talk).end == "cut"


@pytest.mark.parametrize("waits", [True, False])
def test_a_tunnel_of_connect_is_a_conversation_of_its_own(waits: bool) -> None:
    connect = b"CONNECT db.test:80 HTTP/1.1\r\nHost: db.test:80\r\n\r\n"
    accepted = b"HTTP/1.1 200 OK\r\n\r\n"
    talk = read((C, connect), (S, accepted), (C, GET)) if waits else read((C, connect + GET), (S, accepted))
    talk.feed(S, OK, 7)
    one = only(talk)
    assert (one.method, one.authority, one.path, one.status) == ("CONNECT", "db.test:80", "", 200)
    inner = one.tunnel
    assert isinstance(inner, Conversation)
    assert (inner.depth, only(inner).path, only(inner).status) == (1, "/a?(9 bytes)", 200)
    assert (one.request_bytes, one.response_bytes) == (len(GET), len(OK))


def test_a_refused_connect_opens_no_tunnel() -> None:
    connect = b"CONNECT db.test:80 HTTP/1.1\r\nHost: db.test:80\r\n\r\n"
    talk = read((C, connect), (S, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), (C, GET), (S, OK))
    assert [(one.method, one.status, one.tunnel) for one in talk.exchanges] == [
        ("CONNECT", 403, None),
        ("GET", 200, None),
    ]


def test_requests_beyond_the_budget_are_counted_only() -> None:
    talk = Conversation(budget=InsideBudget(exchanges=2))
    for now in range(5):
        talk.feed(C, GET, now)
        talk.feed(S, OK, now)
    assert talk.http1 is not None
    assert (len(talk.exchanges), talk.http1.exchanges.count, reasons(talk)) == (2, 5, [])


def test_a_head_without_an_end_is_not_kept() -> None:
    talk = read((C, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 20000))
    assert reasons(talk) == [(C, 0, "HTTP/1.1: wanted at most 65536 bytes of fields, got more")]


@pytest.mark.parametrize(
    ("flight", "spoken"),
    [
        ((C, b"\x00\x01\x02hello, this is no HTTP"), Spoken.OTHER),
        ((S, b"220 mail.test ESMTP\r\n"), Spoken.OTHER),
        ((C, b"GE"), Spoken.UNDECIDED),
        ((C, b"\x16\x03\x01"), Spoken.TLS),
        ((S, b"\x15\x03\x03\x00\x02\x02\x28"), Spoken.TLS),
    ],
)
def test_the_protocol_shows_in_the_first_bytes(flight: Flight, spoken: Spoken) -> None:
    assert read(flight).spoken is spoken
    assert read(flight, cut=1).spoken is spoken


def test_bytes_lost_before_the_beginning_leave_it_unread() -> None:
    talk = Conversation()
    talk.gap(C, 10)
    talk.feed(C, GET, 1)
    assert talk.spoken is Spoken.OTHER
    assert talk.troubles == [Trouble(C, 10, "bytes are lost before it was known what is spoken")]
