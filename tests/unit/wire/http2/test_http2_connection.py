"""Our connection against itself: windows, ends, shutdown, and bytes that arrive unchanged."""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meshtls.wire.http2.frames import ACK, HIGHEST_STREAM, PREFACE, ErrorCode, Kind, ProtocolError, frame
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.states import Http2State
from tests.unit.wire.http2.ends import (
    BOUNDS,
    HERE,
    SETTINGS,
    Side,
    a_client,
    a_server,
    connected,
    data,
    exchange,
    frames_of,
    goaway,
    headers,
    pair,
    settings,
    window_update,
)


def test_each_side_opens_with_its_settings_and_a_large_window() -> None:
    client, server = Side(True), Side(False)
    said = client.says()
    assert said.startswith(PREFACE)
    kinds = [kind for kind, _, _, _ in frames_of(said[len(PREFACE) :])]
    assert kinds == [Kind.SETTINGS, Kind.WINDOW_UPDATE]
    server.hears(said)
    assert [kind for kind, _, _, _ in frames_of(server.says())] == [Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.SETTINGS]


def test_a_stream_is_asked_for_answered_used_and_ended_from_both_sides() -> None:
    client, server = pair()
    stream = client.http.open(HERE)
    client.sends(stream, b"before the answer")
    exchange(client, server)
    assert server.heard.events == [("requested", 1, b"CONNECT", HERE, False)]
    server.http.accept(server.stream())
    server.sends(server.stream(), b"hello")
    client.http.finish(stream)
    exchange(client, server)
    assert (client.heard.events, client.heard.data) == ([("answered", 1, 200, False)], {1: b"hello"})
    assert (server.heard.data, server.heard.ended) == ({1: b"before the answer"}, {1})
    server.sends(server.stream(), b" and bye")
    server.http.finish(server.stream())
    exchange(client, server)
    assert client.heard.data == {1: b"hello and bye"}
    assert client.http.streams == server.http.streams == {}


@pytest.mark.parametrize("client_ended", [False, True])
def test_a_refusal_ends_the_stream_and_nothing_is_left_of_it(client_ended: bool) -> None:
    client, server = pair()
    stream = client.http.open(HERE)
    if client_ended:
        client.http.finish(stream)
    exchange(client, server)
    server.http.refuse(server.stream(), 403)
    exchange(client, server)
    assert client.heard.events[0] == ("answered", 1, 403, True)
    assert client.http.streams == server.http.streams == {}
    if not client_ended:
        server.hears(data(1, b"what was under way is dropped"))


def test_a_reset_reaches_the_other_side_and_what_crossed_it_is_dropped() -> None:
    client, server = connected()
    client.http.reset(client.stream(), ErrorCode.CANCEL)
    server.sends(server.stream(), b"crossing")
    exchange(client, server)
    assert server.heard.events[-1] == ("broken", 1, ErrorCode.CANCEL, True)
    assert client.heard.data == {}


def test_an_interim_response_is_not_final() -> None:
    client = a_client()
    client.hears(headers(1, b"\x08\x03103") + headers(1, b"\x08\x03201"))
    assert client.heard.events == [("answered", 1, 201, False)]


# -- windows --


def test_no_more_is_sent_than_both_windows_take() -> None:
    client = a_client(2)
    one, two = client.stream(1), client.stream(3)
    assert client.http.room(one) == 1 << 14, "a frame"
    client.sends(one, bytes(1 << 14))
    client.sends(one, bytes(1 << 14))
    client.sends(one, bytes(1 << 14))
    assert client.http.room(one) == (1 << 14) - 1, "the start window, which is the connection's too"
    client.sends(one, bytes((1 << 14) - 1))
    assert (client.http.room(one), client.http.room(two)) == (0, 0)
    client.hears(window_update(0, 10))
    assert (client.http.room(one), client.http.room(two)) == (0, 10)
    client.hears(window_update(1, 4))
    assert client.http.room(one) == 4
    assert client.heard.rooms == 3, "the first was that of SETTINGS"


def test_settings_move_the_windows_of_streams_also_below_nothing() -> None:
    client = a_client()
    client.sends(client.stream(), bytes(10_000))
    client.hears(settings((4, 5_000)))
    assert client.http.room(client.stream()) == -5_000
    client.hears(window_update(1, 5_001))
    assert client.http.room(client.stream()) == 1


def test_a_window_is_returned_once_the_app_has_taken_half_of_it() -> None:
    _, server = connected(crediting=False)
    stream = server.stream()
    for _ in range(8):
        server.hears(data(1, bytes(1 << 14)))
    assert stream.may_receive == BOUNDS.window - (1 << 17)
    server.http.taken(stream, (1 << 17) - 1)
    assert server.says() == b"", "half of it is not yet taken"
    server.http.taken(stream, 1)
    assert server.says() == window_update(1, 1 << 17)
    assert stream.may_receive == BOUNDS.window


def test_the_window_taken_by_padding_is_returned_at_once() -> None:
    _, server = connected(crediting=False)
    padded = data(1, b"\xff" + b"x" + bytes(255), 8)
    for _ in range(520):
        server.hears(padded)
    assert server.heard.data[1] == b"x" * 520
    assert (Kind.WINDOW_UPDATE, 0, 1) in [one[:3] for one in frames_of(server.says())]
    assert server.stream().may_receive + server.stream().unreturned == BOUNDS.window - 520


def pour(client: Side, server: Side, streams: int) -> int:
    """Open streams and fill the window of each; the bytes that could be sent."""
    sent = 0
    for _ in range(streams):
        stream = client.http.open(HERE)
        while (room := client.http.room(stream)) > 0:
            client.sends(stream, bytes(room))
            sent += room
            server.http.kept += room
            server.memory.kept += room
        exchange(client, server)
    return sent


def test_the_connections_window_is_returned_though_no_app_takes_a_byte() -> None:
    client, server = pair(crediting=False)
    assert pour(client, server, 40) == 40 * BOUNDS.window > 2 * BOUNDS.connection_window
    last = client.http.open(HERE)
    assert client.http.room(last) > 0, "forty streams that stand still don't stop this one"


def test_in_tight_memory_the_connections_window_is_returned_only_for_what_the_apps_have_taken() -> None:
    client, server = pair(crediting=False)
    server.memory.size = 8 * BOUNDS.window
    sent = pour(client, server, 40)
    assert sent <= server.memory.size, "no stream has to be reset for it"
    assert client.http.room(client.http.open(HERE)) == 0
    server.http.kept -= sent
    server.http.replenish_connection_window()
    exchange(client, server)
    assert client.http.room(client.stream(client.http.highest)) > 0, "still tight, by what others keep"


@pytest.mark.parametrize(
    ("bounds", "connection"),
    [
        (TunnelBounds(), 24 << 20),
        (TunnelBounds(window=1 << 16), 3 << 15),
        (TunnelBounds(window=1 << 10), (1 << 16) - 1),
        (TunnelBounds(window=(1 << 31) - 1), (1 << 31) - 1),
    ],
)
def test_the_windows_are_those_of_the_bounds(bounds: TunnelBounds, connection: int) -> None:
    client, server = Side(True), Side(False, bounds=bounds)
    exchange(client, server)
    stream = client.http.open(HERE)
    assert (stream.may_send, client.http.may_send) == (bounds.window, connection)


def test_our_window_defaults_are_envoys() -> None:
    """As Envoy 1.40 documents Http2ProtocolOptions."""
    bounds = TunnelBounds()
    assert (bounds.streams, bounds.window, bounds.connection_window) == (1024, 16 << 20, 24 << 20)


def test_bytes_kept_for_a_peer_are_bounded_by_its_streams_windows() -> None:
    _, server = connected(crediting=False)
    for _ in range(16):
        server.hears(data(1, bytes(1 << 14)))
    assert server.stream().may_receive == 0
    assert [kind for kind, _, number, _ in frames_of(server.says()) if number == 1] == []


# -- leaving --


def test_a_server_that_drains_says_so_twice_and_takes_what_crosses_the_first() -> None:
    client, server = connected()
    server.http.drain()
    server.http.drain()
    assert server.state()[0] is Http2State.DRAINING
    first = server.says()
    assert [kind for kind, _, _, _ in frames_of(first)] == [Kind.GOAWAY, Kind.PING]
    assert first[9:13] == HIGHEST_STREAM.to_bytes(4, "big")
    client.http.open(HERE)
    server.hears(client.says())
    assert server.heard.events[-1][:2] == ("requested", 3), "opened before the client knew"
    client.hears(first)
    assert not client.http.can_open
    server.hears(client.says())
    assert server.state()[0] is Http2State.LEAVING
    assert frames_of(server.says()) == [(Kind.GOAWAY, 0, 0, (3).to_bytes(4, "big") + bytes(4))]
    server.hears(headers(5))
    assert frames_of(server.says())[-1] == (Kind.RST_STREAM, 0, 5, ErrorCode.REFUSED_STREAM.to_bytes(4, "big"))
    server.http.accept(server.stream(3))
    exchange(server, client)
    assert client.heard.events[-1] == ("answered", 3, 200, False), "what is there goes on"


def test_streams_above_a_goaways_last_stream_are_reported_as_unprocessed() -> None:
    client = a_client(3)
    client.hears(goaway(3))
    assert client.heard.events == [("broken", 5, ErrorCode.REFUSED_STREAM, True)]
    assert sorted(client.http.streams) == [1, 3]
    assert not client.http.can_open


def test_the_peers_stream_limit_comes_from_its_settings() -> None:
    client = Side(True)
    client.http.peer.max_streams = 1
    client.http.open(HERE)
    assert not client.http.can_open, "a guess"
    client.hears(SETTINGS)
    assert client.http.can_open, "it says nothing of a bound"
    client.hears(settings((3, 1)))
    assert not client.http.can_open


def test_a_client_that_drains_opens_nothing_more() -> None:
    client, server = connected()
    client.http.drain()
    assert not client.http.can_open
    exchange(client, server)
    assert client.http.state is server.http.state is Http2State.LEAVING


def test_a_client_opens_no_more_streams_than_the_server_allows() -> None:
    client = a_client(0)
    client.hears(settings((3, 2)))
    client.http.open(HERE)
    assert client.http.can_open
    client.http.open(HERE)
    assert not client.http.can_open
    client.http.reset(client.stream(3), ErrorCode.CANCEL)
    assert client.http.can_open


def test_the_last_number_is_the_last_stream() -> None:
    client = a_client(0)
    client.http.highest = HIGHEST_STREAM - 2
    assert client.http.can_open
    assert client.http.open(HERE).number == HIGHEST_STREAM
    assert not client.http.can_open


def test_a_ping_is_answered_and_its_answer_is_not() -> None:
    server = a_server()
    server.says()
    server.hears(frame(Kind.PING, 0, 0, b"12345678") + frame(Kind.PING, ACK, 0, b"12345678"))
    assert server.says() == frame(Kind.PING, ACK, 0, b"12345678")


# -- properties --


@given(st.binary(max_size=2000), st.booleans())
def test_junk_is_never_more_than_a_protocol_error(junk: bytes, as_client: bool) -> None:
    side = a_client() if as_client else a_server(headers(1))
    with contextlib.suppress(ProtocolError):
        side.hears(junk)


FRAME = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.integers(0, 9),
    st.one_of(st.binary(max_size=40), st.integers(0, 255).map(lambda n: n.to_bytes(4, "big")), st.just(bytes(8))),
)


@given(st.lists(FRAME, max_size=30), st.booleans())
@hypothesis_settings(deadline=None)
def test_frames_of_every_kind_are_never_more_than_a_protocol_error(frames: list[bytes], as_client: bool) -> None:
    side = a_client(3) if as_client else a_server(headers(1) + headers(3))
    with contextlib.suppress(ProtocolError):
        for one in frames:
            side.hears(one)
    assert len(side.http.streams) <= 100


@dataclass
class Rest:
    """The rest of the bytes of one side on one stream."""

    side: Side
    number: int
    payload: bytes

    def send_some(self, most: int) -> bool:
        """Send some of them; True at the end."""
        stream = self.side.stream(self.number)
        count = min(len(self.payload), self.side.http.room(stream), most)
        if not self.payload:
            self.side.http.finish(stream)
            return True
        if count > 0:
            self.side.sends(stream, self.payload[:count])
            self.payload = self.payload[count:]
        return False


@given(st.randoms(use_true_random=False))
@hypothesis_settings(deadline=None, max_examples=30)
def test_many_streams_in_any_order_and_any_pieces_arrive_byte_for_byte(chance: random.Random) -> None:
    client, server = pair()
    there = {1 + 2 * place: os.urandom(chance.randrange(100_000)) for place in range(5)}
    back = {number: os.urandom(chance.randrange(100_000)) for number in there}
    for _ in there:
        client.http.open(HERE)
    exchange(client, server)
    for stream in list(server.http.streams.values()):
        server.http.accept(stream)
    left = [Rest(client, number, payload) for number, payload in there.items()]
    left += [Rest(server, number, payload) for number, payload in back.items()]
    while left:
        rest = chance.choice(left)
        if rest.send_some(chance.choice([1, 100, 16_384, 300_000])):
            left.remove(rest)
        if chance.random() < 0.3:
            _carry(chance, client, server)
            _carry(chance, server, client)
    exchange(client, server)
    assert {n: server.heard.data.get(n, b"") for n in there} == there
    assert {n: client.heard.data.get(n, b"") for n in back} == back
    assert server.heard.ended == client.heard.ended == set(there)
    assert client.http.streams == server.http.streams == {}


def _carry(chance: random.Random, one: Side, other: Side) -> None:
    said = one.says()
    while said:
        size = chance.choice([1, 8, 9, 10, 1000, 70_000])
        other.hears(said[:size])
        said = said[size:]


def test_the_settings_are_those_of_the_standard_when_nothing_is_said() -> None:
    client = Side(True)
    client.hears(SETTINGS)
    assert (client.http.peer.initial_window, client.http.peer.max_frame, client.http.peer.max_streams) == (
        65_535,
        16_384,
        100,
    )
