"""Interoperation with the h2 library, with our connection in either role."""

from __future__ import annotations

import os

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes

from meshtls.wire.http2.frames import ErrorCode
from meshtls.wire.http2.settings import TunnelBounds
from tests.unit.wire.http2.ends import HERE, Side

CONNECT = [(":method", "CONNECT"), (":authority", HERE.decode())]


class Peer:
    """An h2 connection joined to a side of ours."""

    def __init__(self, ours: Side) -> None:
        self.ours = ours
        self.h2 = H2Connection(H2Configuration(client_side=not ours.client))
        self.h2.initiate_connection()
        self.carry()

    def carry(self) -> list[Event]:
        """Carry bytes both ways until neither side sends; returns h2's events."""
        heard: list[Event] = []
        while (theirs := self.h2.data_to_send()) or self.ours.http.outgoing:
            if theirs:
                self.ours.hears(theirs)
            said = self.ours.says()
            heard += self.h2.receive_data(said) if said else []
        return heard

    def headers(self, events: list[Event]) -> dict[bytes, bytes]:
        found = [event for event in events if isinstance(event, RequestReceived | ResponseReceived)]
        assert len(found) == 1, events
        return {bytes(name): bytes(value) for name, value in found[0].headers or ()}


def test_h2_sees_our_settings() -> None:
    server = Side(False, bounds=TunnelBounds())
    peer = Peer(server)
    assert peer.h2.remote_settings.max_concurrent_streams == 1024
    assert peer.h2.remote_settings.initial_window_size == 1 << 24
    assert peer.h2.outbound_flow_control_window == 3 << 23
    client = Peer(Side(True))
    assert client.h2.remote_settings[SettingCodes.ENABLE_PUSH] == 0


def test_an_h2_client_opens_uses_and_ends_a_stream_of_ours() -> None:
    server = Side(False)
    peer = Peer(server)
    peer.h2.send_headers(1, CONNECT)
    peer.h2.send_data(1, b"to the app")
    peer.carry()
    assert server.heard.events == [("requested", 1, b"CONNECT", HERE, False)]
    server.http.accept(server.stream())
    server.sends(server.stream(), b"from the app")
    events = peer.carry()
    assert peer.headers(events) == {b":status": b"200"}
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"from the app"]
    peer.h2.end_stream(1)
    peer.carry()
    assert (server.heard.data, server.heard.ended) == ({1: b"to the app"}, {1})
    server.http.finish(server.stream())
    assert any(isinstance(event, StreamEnded) for event in peer.carry())
    assert server.http.streams == {}


def test_our_client_opens_uses_and_ends_a_stream_of_an_h2_server() -> None:
    client = Side(True)
    peer = Peer(client)
    stream = client.http.open(HERE)
    client.sends(stream, b"hello")
    events = peer.carry()
    assert peer.headers(events) == {b":method": b"CONNECT", b":authority": HERE}
    peer.h2.send_headers(1, [(":status", "200"), ("server", "another"), ("date", "today")])
    peer.h2.send_data(1, b"hi", end_stream=True)
    peer.carry()
    assert client.heard.events == [("answered", 1, 200, False)]
    assert (client.heard.data, client.heard.ended) == ({1: b"hi"}, {1})
    client.http.finish(stream)
    assert any(isinstance(event, StreamEnded) for event in peer.carry())


@pytest.mark.parametrize("status", [403, 404, 503])
def test_h2_understands_our_refusals(status: int) -> None:
    server = Side(False)
    peer = Peer(server)
    for number in (1, 3):
        peer.h2.send_headers(number, CONNECT)
        peer.carry()
        server.http.refuse(server.stream(number), status)
        events = peer.carry()
        assert peer.headers(events)[b":status"] == str(status).encode()
        assert [event.error_code for event in events if isinstance(event, StreamReset)] == [ErrorCodes.NO_ERROR]


@pytest.mark.parametrize("client", [False, True])
def test_resets_are_understood_both_ways(client: bool) -> None:
    ours = Side(client)
    peer = Peer(ours)
    for number in (1, 3):
        if client:
            ours.http.open(HERE)
        else:
            peer.h2.send_headers(number, CONNECT)
        peer.carry()
    ours.http.reset(ours.stream(1), ErrorCode.CONNECT_ERROR)
    events = peer.carry()
    assert [event.error_code for event in events if isinstance(event, StreamReset)] == [ErrorCodes.CONNECT_ERROR]
    peer.h2.reset_stream(3, ErrorCodes.CANCEL)
    peer.carry()
    assert ours.heard.events[-1] == ("broken", 3, ErrorCode.CANCEL, True)


def test_bulk_is_held_to_both_sides_windows_both_ways() -> None:
    server, there, back = Side(False), os.urandom(3_000_000), os.urandom(3_000_000)
    peer = Peer(server)
    peer.h2.send_headers(1, CONNECT)
    peer.carry()
    stream, got, sent, taken = server.stream(), b"", 0, 0
    server.http.accept(stream)
    while len(got) < len(back) or len(server.heard.data.get(1, b"")) < len(there):
        if room := min(server.http.room(stream), len(back) - taken):
            server.sends(stream, back[taken : taken + room])
            taken += room
        while room := min(peer.h2.local_flow_control_window(1), peer.h2.max_outbound_frame_size, len(there) - sent):
            peer.h2.send_data(1, there[sent : sent + room])
            sent += room
        for event in peer.carry():
            if isinstance(event, DataReceived):
                got += event.data or b""
                peer.h2.acknowledge_received_data(event.flow_controlled_length or 0, 1)
    assert (got, server.heard.data[1]) == (back, there)


def test_h2_with_a_table_of_nothing_reads_our_headers() -> None:
    server = Side(False)
    peer = Peer(server)
    peer.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 0, SettingCodes.MAX_FRAME_SIZE: 1 << 20})
    assert not any(isinstance(event, RemoteSettingsChanged) for event in peer.carry())
    peer.h2.send_headers(1, CONNECT)
    peer.carry()
    server.http.accept(server.stream())
    assert peer.headers(peer.carry())[b":status"] == b"200"


def test_a_drain_is_understood_by_an_h2_client() -> None:
    server = Side(False)
    peer = Peer(server)
    peer.h2.send_headers(1, CONNECT)
    peer.carry()
    server.http.drain()
    # h2 ignores frames after a GOAWAY, so the PING behind it is removed.
    (event,) = peer.h2.receive_data(server.says()[:17])
    assert isinstance(event, ConnectionTerminated)
    assert (event.error_code, event.last_stream_id) == (ErrorCodes.NO_ERROR, (1 << 31) - 1)


def test_h2s_own_goaway_stops_our_client() -> None:
    client = Side(True)
    peer = Peer(client)
    assert client.http.can_open
    peer.h2.close_connection()
    peer.carry()
    assert not client.http.can_open


def test_priorities_and_padding_of_h2_are_taken() -> None:
    server = Side(False)
    peer = Peer(server)
    peer.h2.send_headers(1, CONNECT, priority_weight=16, priority_depends_on=0)
    peer.h2.send_data(1, b"padded", pad_length=100)
    peer.h2.prioritize(7, weight=5)
    peer.carry()
    assert server.heard.data == {1: b"padded"}


def test_h2_gets_its_window_returned() -> None:
    server = Side(False)
    peer = Peer(server)
    peer.h2.send_headers(1, CONNECT)
    peer.carry()
    for _ in range(10):
        peer.h2.send_data(1, bytes(16_384))
    events = [event for event in peer.carry() if isinstance(event, WindowUpdated)]
    assert [event.stream_id for event in events] == [1]
