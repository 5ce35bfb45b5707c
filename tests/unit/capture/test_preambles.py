"""TLS and HTTP after a PROXY protocol header, and TLS after a protocol that changes to it, are read as such."""

from __future__ import annotations

from pathlib import Path

import hpack
import pytest
from msgspec import structs

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.application import Conversation, Spoken
from meshtls.capture.keylog import KeyLog
from meshtls.observe.events import Outcome
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE, Kind, frame
from meshtls.wire.proxy_protocol import LOCAL_HEADER, proxy_header
from meshtls.wire.side import Side
from tests.support.packets import EPOCH
from tests.support.tls_capture import REQUEST, Tape, analyzed, shaken
from tests.support.tls_wire import Flight, Wire, contexts

C, S = Side.CLIENT, Side.SERVER
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 443\r\n"
V2 = proxy_header(("2001:db8::1", 50000), ("2001:db8::2", 443), None)
SMTP_GREETING, EHLO = (S, b"220 mail.test ESMTP\r\n"), (C, b"EHLO a.test\r\n")
SMTP_OFFER = (S, b"250-mail.test\r\n250 STARTTLS\r\n")
START_TLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
STARTED, REFUSED = (bytes.fromhex(f"300c02010178070a01{code}04000400") for code in ("00", "02"))
SSL_REQUEST, GSS_REQUEST = bytes.fromhex("0000000804d2162f"), bytes.fromhex("0000000804d21630")

#: What comes before TLS, by the words for it.
PREAMBLES: dict[str, list[Flight]] = {
    "PROXY protocol, version 1, for the client 192.0.2.1:50000": [(C, V1)],
    "PROXY protocol, version 1, without an address": [(C, b"PROXY UNKNOWN\r\n")],
    "PROXY protocol, version 2, for the client [2001:db8::1]:50000": [(C, V2)],
    "PROXY protocol, version 2, of a connection that the proxy opened for itself": [(C, LOCAL_HEADER)],
    "SMTP, then STARTTLS": [SMTP_GREETING, EHLO, SMTP_OFFER, (C, b"starttls\r\n"), (S, b"220 2.0.0 go ahead\r\n")],
    "IMAP, then STARTTLS": [
        (S, b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n"),
        *((C, b"a1 CAPABILITY\r\n"), (S, b"* CAPABILITY IMAP4rev1\r\na1 OK done\r\n")),
        *((C, b"a2 STARTTLS\r\n"), (S, b"* note\r\na2 OK begin\r\n")),
    ],
    "POP3, then STLS": [(S, b"+OK ready\r\n"), (C, b"STLS\r\n"), (S, b"+OK begin\r\n")],
    "FTP, then AUTH TLS": [(S, b"220-hello\r\n220 ready\r\n"), (C, b"AUTH TLS\r\n"), (S, b"234 proceed\r\n")],
    "NNTP, then STARTTLS": [(S, b"200 ready\r\n"), (C, b"STARTTLS\r\n"), (S, b"382 continue\r\n")],
    "PostgreSQL's SSLRequest": [(C, SSL_REQUEST), (S, b"S")],
    "LDAP's StartTLS": [(C, START_TLS), (S, STARTED)],
    "PROXY protocol, version 1, for the client 192.0.2.1:50000, then SMTP, then STARTTLS": [
        *((C, V1), SMTP_GREETING, (C, b"STARTTLS\r\n"), (S, b"220 go ahead\r\n")),
    ],
}
#: The same after something that is refused or comes otherwise.
OTHER_WAYS: list[tuple[str, list[Flight]]] = [
    (
        "SMTP, then STARTTLS",
        [SMTP_GREETING, (C, b"STARTTLS\r\n"), (S, b"454 later\r\n"), *[(C, b"STARTTLS\r\n")], (S, b"220 \r\n")],
    ),
    ("PostgreSQL's SSLRequest", [(C, GSS_REQUEST), (S, b"N"), (C, SSL_REQUEST), (S, b"S")]),
]
CASES = [*PREAMBLES.items(), *OTHER_WAYS]
IDS = [f"{number}-{words}" for number, (words, _) in enumerate(CASES)]


def read(flights: list[Flight], keys: KeyLog | None = None, *, cut: int = 0) -> Conversation:
    talk = Conversation(keys)
    for number, (side, data) in enumerate(flights):
        for at in range(0, len(data), cut or len(data)):
            talk.feed(side, data[at : at + cut] if cut else data, EPOCH + number)
    return talk


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize(("words", "before"), CASES, ids=IDS)
def test_tls_that_comes_after_something_is_read(words: str, before: list[Flight], cut: int, tmp_path: Path) -> None:
    flights = shaken(tmp_path).flights
    keys = KeyLog((tmp_path / "keys").read_bytes())
    talk = read([*before, *flights], keys, cut=cut)
    assert (talk.spoken, talk.preamble, list(talk.all_troubles())) == (Spoken.TLS, words, [])
    assert talk.inside is not None
    assert [(one.path, one.status) for one in talk.inside.exchanges] == [("/pay?(12 bytes)", 200)]
    # Offsets are those of the connection.
    assert talk.tls is not None
    first = next(one for one in talk.tls.events if not isinstance(one, tuple))
    assert getattr(first, "offset", None) == sum(len(data) for side, data in before if side is C)


@pytest.mark.parametrize(("words", "before"), CASES, ids=IDS)
def test_the_record_says_what_came_before(words: str, before: list[Flight], tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    wire.flights[:0] = before
    tape = Tape()
    tape.wire(wire)
    (found,) = analyzed(tape, tmp_path / "keys")
    assert (found.protocol, found.preamble, found.outcome, found.first_line) == ("TLS", words, Outcome.OK, "")
    assert (found.client.peer is not None, found.handshake is not None and found.handshake.complete) == (True, True)
    # The twin without it.
    wire.flights[: len(before)] = []
    tape = Tape()
    tape.wire(wire)
    (found,) = analyzed(tape, tmp_path / "keys")
    assert (found.protocol, found.preamble, found.outcome) == ("TLS", "", Outcome.OK)


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("header", [V1, V2])
def test_http_after_a_proxy_header_is_read(header: bytes, cut: int) -> None:
    talk = read([(C, header + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), (S, b"HTTP/1.1 204 No Content\r\n\r\n")], cut=cut)
    assert (talk.spoken, talk.preamble[:14]) == (Spoken.HTTP1, "PROXY protocol")
    assert [(one.path, one.status) for one in talk.exchanges] == [("/a", 204)]
    talk.feed(C, b"no request\r\n\r\n", 1)
    ((_, trouble),) = talk.all_troubles()
    assert trouble.offset == talk.bytes[C] - len(b"no request\r\n\r\n")


#: What looks like one of these, and does not change to TLS.
PLAIN: dict[str, list[Flight]] = {
    "the server refuses": [SMTP_GREETING, (C, b"STARTTLS\r\n"), (S, b"454 not now\r\n"), (C, b"MAIL FROM:<a>\r\n")],
    "nobody asks": [SMTP_GREETING, EHLO, SMTP_OFFER, (C, b"MAIL FROM:<a@a.test>\r\n")],
    "the tag is another": [(S, b"* OK\r\n"), (C, b"a1 STARTTLS\r\n"), (S, b"a2 OK\r\n")],
    "PostgreSQL without TLS": [(C, SSL_REQUEST), (S, b"N"), (C, b"\0\0\0\x09\0\3\0\0\0")],
    "LDAP without TLS": [(C, START_TLS), (S, REFUSED), (C, bytes.fromhex("300c020102600702010304008000"))],
    "a bind of LDAP": [
        (C, bytes.fromhex("300c020101600702010304008000")),
        (S, bytes.fromhex("300c02010161070a010004000400")),
    ],
    "no PROXY header": [(C, b"PROXY TCP4 here there 1 2\r\n")],
    "a line without an end": [SMTP_GREETING, (C, b"x" * 5000), (C, b"\r\nSTARTTLS\r\n"), (S, b"220 \r\n")],
    "too much before it": [SMTP_GREETING, *[(C, b"x" * 999 + b"\n")] * 70, (C, b"STARTTLS\r\n"), (S, b"220 \r\n")],
    "too much before the answer": [SMTP_GREETING, (C, b"STARTTLS\r\n"), *[(C, bytes(1000))] * 17, (S, b"220 \r\n")],
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_protocol_that_does_not_change_to_tls_is_not_taken_for_it(name: str, tmp_path: Path) -> None:
    talk = read([*PLAIN[name], *shaken(tmp_path).flights])
    assert (talk.spoken, talk.preamble, talk.tls) == (Spoken.OTHER, "", None)


def test_lost_bytes_before_the_change_leave_it_unread(tmp_path: Path) -> None:
    talk = read([SMTP_GREETING])
    talk.gap(C, 3)
    for side, data in [(C, b"STARTTLS\r\n"), (S, b"220 \r\n"), *shaken(tmp_path).flights]:
        talk.feed(side, data, EPOCH)
    assert (talk.spoken, talk.tls) == (Spoken.OTHER, None)


CONNECT = (C, b"CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n")
ESTABLISHED = (S, b"HTTP/1.1 200 Connection established\r\n\r\n")
WANTS_LOGIN = (S, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")
THROUGH = "CONNECT to web.test:443 through the proxy 10.0.0.2:443"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("before", "words"),
    [
        ([CONNECT, ESTABLISHED], THROUGH),
        ([CONNECT, WANTS_LOGIN, CONNECT, ESTABLISHED], THROUGH),
        ([(C, V1), CONNECT, ESTABLISHED], f"PROXY protocol, version 1, for the client 192.0.2.1:50000, then {THROUGH}"),
        (
            [CONNECT, ESTABLISHED, SMTP_GREETING, (C, b"STARTTLS\r\n"), (S, b"220 go ahead\r\n")],
            f"{THROUGH}, then SMTP, then STARTTLS",
        ),
    ],
    ids=["at once", "after a login", "after a PROXY header", "before STARTTLS"],
)
def test_tls_through_an_http_proxy_is_in_the_record(
    before: list[Flight], words: str, version: int, tmp_path: Path
) -> None:
    wire = shaken(tmp_path, version=version)
    plain = Tape()
    plain.wire(wire)
    (expected,) = analyzed(plain, tmp_path / "keys")
    wire.flights[:0] = before
    tape = Tape()
    tape.wire(wire)
    (found,) = analyzed(tape, tmp_path / "keys")
    assert (found.protocol, found.preamble, found.first_line, found.outcome) == ("TLS", words, "", Outcome.OK)
    assert (found.client.peer, found.server.peer) == (expected.client.peer, expected.server.peer)
    assert found.handshake is not None
    assert expected.handshake is not None
    assert structs.replace(found.handshake, ms=0.0) == structs.replace(expected.handshake, ms=0.0)
    assert found.connection_id == expected.connection_id
    assert found.application_bytes == expected.application_bytes
    connects = before.count(CONNECT)
    assert [one.method for one in found.requests] == ["CONNECT"] * connects + ["GET"]


@pytest.mark.parametrize("mutual", [True, False])
def test_a_handshake_that_is_refused_behind_an_http_proxy_is_told(mutual: bool, tmp_path: Path) -> None:
    wire = shaken(tmp_path, mutual=mutual)
    wire.flights[:0] = [CONNECT, ESTABLISHED]
    tape = Tape()
    tape.wire(wire)
    (found,) = analyzed(tape, tmp_path / "keys")
    assert found.outcome is (Outcome.OK if mutual else Outcome.NO_CLIENT_CERTIFICATE)
    problem = (
        "the server web.test:443 (spiffe://a.test/web) through the proxy 10.0.0.2:443 sent the alert"
        " certificate_required: the client 10.0.0.1:40001 presented no certificate"
    )
    assert found.problem == ("" if mutual else problem)


@pytest.mark.parametrize(
    "flights",
    [
        [CONNECT, WANTS_LOGIN],
        [CONNECT, (S, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")],
        [CONNECT, ESTABLISHED],
        [CONNECT, ESTABLISHED, (C, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")],
    ],
    ids=["wants a login", "refused", "empty", "plaintext inside"],
)
def test_a_connect_without_tls_behind_it_stays_http(flights: list[Flight]) -> None:
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in flights), *talk.close()]
    (found,) = analyzed(tape)
    assert (found.protocol, found.preamble, found.handshake) == ("HTTP/1.1", "", None)
    assert found.first_line == "CONNECT web.test:443 HTTP/1.1"


CANCEL = bytes((0, 0, 0, 8))


class Streams:
    """Frames of both sides of an HTTP/2 connection, as flights."""

    def __init__(self) -> None:
        self.encoders = {side: hpack.Encoder() for side in Side}
        self.flights: list[Flight] = [
            (C, PREFACE + frame(Kind.SETTINGS, 0, 0, b"")),
            (S, frame(Kind.SETTINGS, 0, 0, b"")),
        ]

    def head(self, side: Side, stream: int, fields: list[tuple[str, str]], *, end: bool = False) -> None:
        block = self.encoders[side].encode(fields)
        self.flights.append((side, frame(Kind.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)))

    def tunnel(self, stream: int, flights: list[Flight], status: str = "200") -> None:
        """A CONNECT, its answer, and what is said in it; the client speaks before the answer."""
        self.head(C, stream, [(":method", "CONNECT"), (":authority", "web.test:443")])
        first, *flights = flights
        self.flights.append((C, frame(Kind.DATA, 0, stream, first[1])))
        self.head(S, stream, [(":status", status)])
        self.flights += [(side, frame(Kind.DATA, 0, stream, data)) for side, data in flights]

    def end(self, side: Side, stream: int, kind: Kind = Kind.DATA) -> None:
        """It ends the stream, or resets it (CANCEL)."""
        resets = kind is Kind.RST_STREAM
        self.flights.append((side, frame(kind, 0 if resets else END_STREAM, stream, CANCEL if resets else b"")))

    def told(self, keys: Path | None = None, *, lost: int | None = None) -> Connection:
        """The record of the connection; both sides close it a while after the last frame."""
        tape = Tape()
        talk = tape.talk()
        tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in self.flights)]
        tape.wait(5000)
        tape.frames += talk.close()
        if lost is not None:
            del tape.frames[3 + lost]
        (found,) = analyzed(tape, keys)
        return found


@pytest.mark.parametrize("version", [2, 3])
def test_tls_through_a_proxy_of_cleartext_http2_is_in_the_record(version: int, tmp_path: Path) -> None:
    wire = shaken(tmp_path, version=version)
    plain = Tape()
    plain.wire(wire)
    (expected,) = analyzed(plain, tmp_path / "keys")
    streams = Streams()
    streams.tunnel(1, wire.flights)
    streams.end(C, 1)
    streams.end(S, 1)
    found = streams.told(tmp_path / "keys")
    assert (found.protocol, found.preamble, found.first_line, found.outcome) == ("TLS", THROUGH, "", Outcome.OK)
    assert (found.client.peer, found.server.peer) == (expected.client.peer, expected.server.peer)
    assert found.handshake is not None
    assert expected.handshake is not None
    assert structs.replace(found.handshake, ms=0.0) == structs.replace(expected.handshake, ms=0.0)
    for one, other in ((found.client, expected.client), (found.server, expected.server)):
        assert (one.tls_bytes, one.application_bytes) == (other.tls_bytes, other.application_bytes)
    assert (found.connection_id, found.troubles) == (expected.connection_id, ())


CUT_BY = {
    # The proxy's connection goes on, and the client closes it.
    (S, Kind.DATA): (
        Outcome.HANDSHAKE_FAILED,
        "the server web.test:443 through the proxy 10.0.0.2:443 closed the connection during the handshake, after the"
        " server's ServerHello, without an alert",
    ),
    (C, Kind.DATA): (
        Outcome.CLOSED_EARLY,
        "the client 10.0.0.1:40001 closed the connection during the handshake, after the server's ServerHello, without"
        " an alert",
    ),
    (S, Kind.RST_STREAM): (
        Outcome.HANDSHAKE_FAILED,
        "the server web.test:443 through the proxy 10.0.0.2:443 reset the connection during the handshake, after the"
        " server's ServerHello, without an alert",
    ),
}


@pytest.mark.parametrize(("side", "kind"), CUT_BY)
def test_the_side_that_ends_the_stream_first_ends_the_tls_in_it(side: Side, kind: Kind, tmp_path: Path) -> None:
    streams = Streams()
    streams.tunnel(1, shaken(tmp_path).flights[:2])
    streams.end(side, 1, kind)
    found = streams.told()
    assert (found.outcome, found.problem) == CUT_BY[side, kind]


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.RST_STREAM])
def test_a_stream_that_is_reset_is_told_as_reset_although_tcp_closes(kind: Kind, tmp_path: Path) -> None:
    wire = Wire(*contexts(tmp_path, tmp_path / "keys", mutual=True, version=3))
    assert not wire.shake()
    wire.send(C, REQUEST)
    streams = Streams()
    streams.tunnel(1, wire.flights)
    streams.end(C, 1, kind)
    if kind is Kind.DATA:
        streams.end(S, 1)
    found = streams.told(tmp_path / "keys")
    assert found.outcome is (Outcome.OK if kind is Kind.DATA else Outcome.RESET)


@pytest.mark.parametrize("status", ["200", "403"])
def test_a_hello_that_was_sent_before_the_proxy_refused_is_not_told_as_a_handshake(status: str, tmp_path: Path) -> None:
    streams = Streams()
    streams.tunnel(1, shaken(tmp_path).flights[:1], status)
    streams.end(S, 1)
    found = streams.told()
    assert (found.protocol, [one.status for one in found.requests]) == (
        "TLS" if status == "200" else "HTTP/2",
        [int(status)],
    )


def test_the_record_is_about_http2_where_there_are_several_streams_or_lost_frames(tmp_path: Path) -> None:
    why = (
        "the record is about HTTP/2, and not the TLS in a tunnel, since that is not the only stream, or not all of its"
        " frames are known: streams that are tunnels with TLS in them: {}"
    )
    flights = shaken(tmp_path).flights
    two, mixed, one = Streams(), Streams(), Streams()
    for streams, numbers in ((two, (1, 3)), (mixed, (3,)), (one, (1,))):
        for number in numbers:
            streams.tunnel(number, flights)
    mixed.head(C, 5, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], end=True)
    for found, count in ((two.told(), 2), (mixed.told(), 1), (one.told(lost=len(one.flights) - 1), 1)):
        assert (found.protocol, found.preamble) == ("HTTP/2", "")
        assert why.format(count) in found.troubles
    assert one.told().protocol == "TLS"
