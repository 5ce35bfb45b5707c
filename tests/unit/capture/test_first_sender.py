"""Without a SYN, the first bytes say which end is the client, and the ports only where these do not."""

from __future__ import annotations

import struct

import pytest

from meshtls.capture import roles
from meshtls.capture.analysis.connection import as_json
from meshtls.capture.first_sender import begins_connection, begins_stream, client_is_sender
from meshtls.wire.http2.frames import PREFACE
from meshtls.wire.proxy_protocol import LOCAL_HEADER
from meshtls.wire.side import Side
from meshtls.wire.tls.records import RECORD_HEADER
from tests.support.packets import ACK, RST, End, Talk, captured, read
from tests.support.tls_capture import Tape, analyzed

C, S = Side.CLIENT, Side.SERVER


def record(kind: int, size: int = 60, *, version: int = 0x0303, content: int = 22) -> bytes:
    """The beginning of a TLS record with a handshake message."""
    return struct.pack("!BHHB", content, version, (size + 4) % 65536, kind) + size.to_bytes(3, "big") + bytes(8)


def settings(*, length: int = 12, kind: int = 4, flags: int = 0, stream: int = 0) -> bytes:
    return length.to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + bytes(length)


@pytest.mark.parametrize(
    ("first", "is_client"),
    [
        (record(1), True),
        (record(1, version=0x0301), True),
        (record(1, 1500), True),
        (record(16), True),
        (record(2), False),
        (record(4), False),
        (record(12), False),
        (record(13), False),
        (record(14, 0), False),
        (record(11), None),
        (record(20, 12), None),
        (record(1, 1 << 16), None),
        (record(2)[:8], None),
        (record(2, content=23), None),
        (PREFACE, True),
        (PREFACE[:10], None),
        (b"GET / HTTP/1.1\r\n", True),
        (b"POST http://a.test/x HTTP/1.1\r\nHost: a\r\n", True),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", True),
        (LOCAL_HEADER, True),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.0 503 ", False),
        (b"HTTP/2", None),
        (settings(), False),
        (settings(length=0), False),
        (settings(length=13), None),
        (settings(kind=0), None),
        (settings(flags=1), None),
        (settings(stream=1), None),
        (settings()[:8], None),
        (b"\x01" + settings()[1:], None),
        (b"220 mail.test ESMTP\r\n", None),
        (b"\0\0\0\x05hello", None),
        (b"", None),
    ],
)
def test_bytes_that_a_single_end_sends_say_which_end_it_is(first: bytes, is_client: bool | None) -> None:
    assert client_is_sender(first) is is_client


@pytest.mark.parametrize(
    ("first", "stream", "connection"),
    [
        (record(1), True, True),
        (record(2), True, False),
        (record(16), False, False),
        (record(13), False, False),
        (record(11), False, False),
        (record(1, 1 << 16), False, False),
        (record(1)[:8], False, False),
        (record(1, content=23), False, False),
        (PREFACE, True, True),
        (LOCAL_HEADER, True, True),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", True, True),
        (settings(), True, False),
        (b"GET / HTTP/1.1\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\n", True, False),
        (b"220 mail.test ESMTP\r\n", False, False),
        (b"", False, False),
    ],
)
def test_bytes_that_begin_a_stream_or_a_connection_are_recognized(first: bytes, stream: bool, connection: bool) -> None:
    assert (begins_stream(first), begins_connection(first)) == (stream, connection)


@pytest.mark.parametrize(
    ("first", "from_start"), [(PREFACE, True), (record(1), True), (b"GET / HTTP/1.1\r\n", False), (b"binary", False)]
)
def test_without_a_syn_a_connection_is_from_its_start_where_its_first_bytes_are(first: bytes, from_start: bool) -> None:
    talk = Talk()
    talk.handshake()
    seen, _ = read(captured([talk.client(first)]))
    assert seen.flows[0].from_start is from_start


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(
    ("client", "server"),
    [(40_000, 50_051), (40_000, 443)],
    ids=["a gRPC server with the higher port", "a server with the lower port"],
)
@pytest.mark.parametrize(
    "first", [(PREFACE, settings()), (record(1), record(2)), (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200")]
)
def test_without_a_syn_the_first_bytes_of_either_end_tell_the_client(
    first: tuple[bytes, bytes], client: int, server: int, from_client: bool
) -> None:
    talk = Talk(("10.0.0.1", client), ("10.0.0.2", server))
    talk.handshake()
    question, answer = first
    frames = [talk.client(question)] if from_client else [talk.server(answer)]
    seen, _ = read(captured(frames))
    [flow], [kept] = seen.flows, seen.sinks
    assert (flow.client.address.port, flow.server.address.port) == (client, server)
    assert kept.stream(C if from_client else S) == [question if from_client else answer]


def test_the_first_bytes_are_joined_from_segments_and_end_at_the_first_hole() -> None:
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.2", 50_051))
    talk.handshake()
    frames = [talk.client(b"GET "), talk.client(b"/ HTTP/"), talk.client(b"1.1\r\n")]
    for kept_frames, client in ((frames, 40_000), (frames[::2], 50_051)):
        seen, _ = read(captured(kept_frames))
        assert seen.flows[0].client.address.port == client
    packets = captured(frames)
    packets[1] = packets[1]._replace(data=packets[1].data[:-2])
    seen, _ = read(packets)
    assert seen.flows[0].client.address.port == 50_051


def test_bytes_of_the_second_end_count_where_the_first_says_nothing() -> None:
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.2", 50_051))
    talk.handshake()
    seen, _ = read(captured([talk.server(b"\0\0\0"), talk.client(PREFACE)]))
    assert seen.flows[0].client.address.port == 40_000


#: A gRPC server, whose port is above those of its clients; bytes from the middle that say nothing of who sent them.
GRPC, DATA = ("10.0.0.2", 50_051), b"\x17\x03\x03\0\x20" + bytes(32)


def midway(client: End, server: End, *, server_first: bool = False) -> list[bytes]:
    """A connection without its handshake and without bytes that show the client."""
    talk = Talk(client, server)
    talk.handshake()
    said = [talk.client(DATA), talk.server(DATA + DATA)]
    return said[::-1] if server_first else said


@pytest.mark.parametrize("server_first", [True, False])
@pytest.mark.parametrize("answered", [True, False])
def test_an_end_that_answered_a_syn_is_the_server_of_other_connections_too(server_first: bool, answered: bool) -> None:
    other = Talk(("10.0.0.3", 40_002), GRPC)
    frames = other.handshake() if answered else [other.handshake()[0]]
    seen, _ = read(captured([*frames, *midway(("10.0.0.1", 40_001), GRPC, server_first=server_first)]))
    flow = seen.flows[-1]
    # The twin, whose SYN nobody answered, shows no server.
    assert (flow.server.address.port, flow.roles_guessed) == ((50_051, False) if answered else (40_001, True))
    assert seen.sinks[-1].stream(S if answered else C) == [DATA + DATA]


def test_another_host_or_port_that_answered_a_syn_tells_nothing() -> None:
    known = [Talk(("10.0.0.3", 40_002), server).handshake() for server in (("10.0.0.9", 50_051), ("10.0.0.2", 50_052))]
    frames = [frame for one in known for frame in one]
    seen, _ = read(captured([*frames, *midway(("10.0.0.1", 40_001), GRPC)]))
    assert (seen.flows[-1].server.address.port, seen.flows[-1].roles_guessed) == (40_001, True)


def test_where_both_ends_answered_a_syn_the_first_bytes_tell_the_client() -> None:
    ends = ("10.0.0.1", 60_000), GRPC
    frames = [frame for end in ends for frame in Talk(("10.0.0.3", 40_002), end).handshake()]
    talk = Talk(*ends)
    talk.handshake()
    seen, _ = read(captured([*frames, talk.server(settings())]))
    assert (seen.flows[-1].client.address.port, seen.flows[-1].roles_guessed) == (60_000, False)
    seen, _ = read(captured([*frames, *midway(GRPC, ends[0])]))
    assert seen.flows[-1].roles_guessed


def test_the_servers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "MOST_SERVERS", 2)
    servers = [("10.0.0.2", 50_000 + number) for number in range(3)]
    shaken = [frame for one in servers for frame in Talk(("10.0.0.3", 40_002), one).handshake()]
    for server, known in zip(servers, (False, True, True), strict=True):
        seen, _ = read(captured([*shaken, *midway(("10.0.0.1", 40_001), server)]))
        assert seen.flows[-1].roles_guessed is not known


@pytest.mark.parametrize("answered", [GRPC, ("10.0.0.1", 40_001), ("10.0.0.9", 50_051)], ids=str)
def test_a_server_that_answers_a_syn_later_is_known_in_the_record(answered: End) -> None:
    tape = Tape()
    talk = Talk(("10.0.0.1", 40_001), GRPC)
    talk.handshake()
    tape.frames += [talk.client(DATA), talk.server(DATA + DATA)]
    tape.frames += Talk(("10.0.0.3", 40_002), answered).handshake()
    tape.frames.append(talk.server(flags=RST | ACK))
    found = analyzed(tape)[0]
    known = answered[0] != "10.0.0.9"
    server, client = GRPC, ("10.0.0.1", 40_001)
    if answered != GRPC:
        server, client = client, server
    assert (found.server.address, found.client.address) == (f"{server[0]}:{server[1]}", f"{client[0]}:{client[1]}")
    assert found.roles_guessed is not known
    assert found.server.application_bytes == (len(DATA) - RECORD_HEADER) * (2 if server == GRPC else 1)
    who = "server" if server == GRPC else "client"
    words = f"; the {who} 10.0.0.2:50051{'' if known else ' (guessed by the ports)'} reset the connection, "
    assert words in found.unknown_because
    ends = (found.server, found.client) if server == GRPC else (found.client, found.server)
    assert [end.ending for end in ends] == ["reset", "reset by the peer"]


@pytest.mark.parametrize("answered", [True, False])
def test_the_words_say_that_client_and_server_are_guessed(answered: bool) -> None:
    tape = Tape()
    if answered:
        tape.frames += Talk(("10.0.0.3", 40_002), GRPC).handshake()
    talk = Talk(("10.0.0.1", 40_001), GRPC)
    talk.handshake()
    tape.frames += [talk.client(DATA), talk.server(DATA), talk.server(flags=RST | ACK)]
    found = analyzed(tape)[-1]
    words = ("10.0.0.2:50051", "server") if answered else ("10.0.0.2:50051 (guessed by the ports)", "client")
    assert (found.roles_guessed, found.server.address) == (
        not answered,
        f"10.0.0.{2 if answered else 1}:{50051 if answered else 40001}",
    )
    assert f"; the {words[1]} {words[0]} reset the connection, " in found.unknown_because
    assert as_json(found)["roles_guessed"] is not answered
