"""A connection's states: every cell of the table, and what moves a connection from one to the next."""

from __future__ import annotations

import pytest

from meshtls.wire.http2.frames import PREFACE, ErrorCode, Kind, ProtocolError, frame
from meshtls.wire.http2.states import NEXT, Expects, Http2State, Shutdown
from tests.unit.wire.http2.ends import CONNECT, SETTINGS, Side, a_client, a_server, connected, goaway, headers

OPEN, DRAINING, LEAVING, CLOSED = Http2State
ANNOUNCED, BEGUN, FORCED = Shutdown

#: RFC 9113, section 6.8: a first GOAWAY, the final one, and one that says why the connection ends.
TABLE = {
    (OPEN, ANNOUNCED): DRAINING,
    (OPEN, BEGUN): LEAVING,
    (OPEN, FORCED): CLOSED,
    (DRAINING, ANNOUNCED): None,
    (DRAINING, BEGUN): LEAVING,
    (DRAINING, FORCED): CLOSED,
    (LEAVING, ANNOUNCED): None,
    (LEAVING, BEGUN): LEAVING,
    (LEAVING, FORCED): CLOSED,
    (CLOSED, ANNOUNCED): None,
    (CLOSED, BEGUN): CLOSED,
    (CLOSED, FORCED): None,
}


def test_the_table_has_exactly_these_transitions() -> None:
    assert {(state, step): NEXT[state].get(step) for state in Http2State for step in Shutdown} == TABLE


def reached(state: Http2State, *, client: bool) -> Side:
    """A side in this state."""
    side = a_client(0) if client else a_server()
    if state is DRAINING:
        side.http.drain()
    elif state is LEAVING:
        side.hears(goaway(0))
    elif state is CLOSED:
        side.http.close(ErrorCode.INTERNAL_ERROR, "for a test")
    side.says()
    assert side.http.state is state
    return side


@pytest.mark.parametrize("state", Http2State)
def test_a_server_drains_once_and_only_while_it_is_open(state: Http2State) -> None:
    server = reached(state, client=False)
    server.http.drain()
    assert server.http.state is (DRAINING if state is OPEN else state)
    assert bool(server.says()) is (state is OPEN)


@pytest.mark.parametrize("state", [OPEN, LEAVING, CLOSED])
def test_a_client_that_drains_leaves_at_once(state: Http2State) -> None:
    client = reached(state, client=True)
    client.http.drain()
    assert client.http.state is (LEAVING if state is OPEN else state)
    assert bool(client.says()) is (state is OPEN)


@pytest.mark.parametrize("state", [OPEN, DRAINING, LEAVING])
def test_a_broken_rule_closes_a_connection_in_each_state(state: Http2State) -> None:
    server = reached(state, client=False)
    with pytest.raises(ProtocolError):
        server.hears(frame(Kind.PING, 0, 1, bytes(8)))
    assert server.http.state is CLOSED


def test_a_connection_that_is_closed_says_so_once() -> None:
    server = a_server()
    server.says()
    server.http.close(ErrorCode.INTERNAL_ERROR, "why")
    server.http.close(ErrorCode.NO_ERROR)
    assert server.says() == frame(Kind.GOAWAY, 0, 0, bytes(4) + b"\0\0\0\2why")


def test_a_goaway_behind_what_closed_the_connection_is_no_error() -> None:
    client = reached(CLOSED, client=True)
    client.hears(goaway(0))
    assert client.http.state is CLOSED


@pytest.mark.parametrize(("state", "opens"), [(OPEN, True), (LEAVING, False), (CLOSED, False)])
def test_a_client_opens_streams_while_its_connection_is_open(state: Http2State, opens: bool) -> None:
    assert reached(state, client=True).http.can_open is opens


@pytest.mark.parametrize(("state", "accepts"), [(OPEN, True), (DRAINING, True), (LEAVING, False)])
def test_a_server_accepts_streams_until_it_leaves(state: Http2State, accepts: bool) -> None:
    server = reached(state, client=False)
    server.hears(headers(1))
    assert (1 in server.http.streams) is accepts
    assert server.heard.events[-1][0] == ("requested" if accepts else "refused")


def test_a_server_expects_the_preface_then_settings_then_any_frame() -> None:
    server = Side(False)
    seen = [server.http.expects]
    for part in (PREFACE[:10], PREFACE[10:], SETTINGS[:5], SETTINGS[5:], headers(1)):
        server.hears(part)
        seen.append(server.http.expects)
    wanted = [Expects.PREFACE, Expects.PREFACE, Expects.SETTINGS, Expects.SETTINGS, Expects.FRAME, Expects.FRAME]
    assert seen == wanted


def test_a_client_expects_settings_first() -> None:
    client = Side(True)
    assert client.state() == (OPEN, Expects.SETTINGS)
    client.hears(SETTINGS)
    assert client.state() == (OPEN, Expects.FRAME)


def test_after_part_of_a_header_block_its_rest_is_expected() -> None:
    server = a_server(headers(1, CONNECT[:3], 0))
    assert server.state() == (OPEN, Expects.CONTINUATION)
    server.hears(frame(Kind.CONTINUATION, 0, 1, CONNECT[3:5]))
    assert server.state() == (OPEN, Expects.CONTINUATION)
    server.hears(frame(Kind.CONTINUATION, 4, 1, CONNECT[5:]))
    assert server.state() == (OPEN, Expects.FRAME)


def test_repr_shows_the_states_and_the_windows() -> None:
    _, server = connected()
    window = server.http.bounds.connection_window
    assert repr(server.http) == (
        f"<Http2Connection server OPEN, expects FRAME [1 streams, send {window}, receive {window}]>"
    )
    assert repr(Side(True).http).startswith("<Http2Connection client OPEN, expects SETTINGS [0 streams")
