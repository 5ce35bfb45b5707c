"""The states of sidecars, listeners and connections: every cell of the tables, and that ``repr`` shows them."""

from __future__ import annotations

import socket

import pytest

from meshtls.clock import SystemClock
from meshtls.errors import NotAuthorizedError
from meshtls.observe.events import Direction
from meshtls.policy.authorizer import authorize_any
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.states import (
    CONNECTION,
    LISTENER,
    SIDECAR,
    ConnectionState,
    ConnectionStep,
    ListenerState,
    ListenerStep,
    SidecarState,
    SidecarStep,
)
from meshtls.spiffeid import SpiffeId

LOCAL = SpiffeId.parse("spiffe://example.org/b")
ACCEPTED, DETECTING, HANDSHAKING, ADMITTED, RELAYING, PARTING, ENDED = ConnectionState
DETECT, HANDSHAKE, ADMIT, RELAY, RETRY, PART, END = ConnectionStep
BOUND, ACCEPTING, PAUSED, CLOSED = ListenerState
ACCEPT, FAIL, CLOSE = ListenerStep
NEW, SERVING, DRAINING, STOPPED = SidecarState
SERVE, DRAIN, STOP = SidecarStep

CONNECTION_STEPS = {
    (ACCEPTED, DETECT): DETECTING,
    (ACCEPTED, HANDSHAKE): HANDSHAKING,
    (ACCEPTED, ADMIT): ADMITTED,
    (ACCEPTED, RELAY): RELAYING,
    (ACCEPTED, PART): PARTING,
    (ACCEPTED, END): ENDED,
    (DETECTING, HANDSHAKE): HANDSHAKING,
    (DETECTING, ADMIT): ADMITTED,
    (DETECTING, PART): PARTING,
    (DETECTING, END): ENDED,
    (HANDSHAKING, HANDSHAKE): HANDSHAKING,
    (HANDSHAKING, ADMIT): ADMITTED,
    (HANDSHAKING, PART): PARTING,
    (HANDSHAKING, END): ENDED,
    (ADMITTED, RELAY): RELAYING,
    (ADMITTED, PART): PARTING,
    (ADMITTED, END): ENDED,
    (RELAYING, RETRY): ACCEPTED,
    (RELAYING, PART): PARTING,
    (RELAYING, END): ENDED,
    (PARTING, HANDSHAKE): HANDSHAKING,
    (PARTING, PART): PARTING,
    (PARTING, END): ENDED,
    (ENDED, END): ENDED,
}
LISTENER_STEPS = {
    (BOUND, ACCEPT): ACCEPTING,
    (BOUND, CLOSE): CLOSED,
    (ACCEPTING, FAIL): PAUSED,
    (ACCEPTING, CLOSE): CLOSED,
    (PAUSED, ACCEPT): ACCEPTING,
    (PAUSED, CLOSE): CLOSED,
    (CLOSED, CLOSE): CLOSED,
}
SIDECAR_STEPS = {
    (NEW, SERVE): SERVING,
    (SERVING, DRAIN): DRAINING,
    (DRAINING, DRAIN): DRAINING,
    (DRAINING, STOP): STOPPED,
    (STOPPED, DRAIN): STOPPED,
}


def test_the_tables_have_these_steps_and_no_others() -> None:
    assert {(at, step): to for at, steps in CONNECTION.items() for step, to in steps.items()} == CONNECTION_STEPS
    assert {(at, step): to for at, steps in LISTENER.items() for step, to in steps.items()} == LISTENER_STEPS
    assert {(at, step): to for at, steps in SIDECAR.items() for step, to in steps.items()} == SIDECAR_STEPS
    assert (set(CONNECTION), set(LISTENER), set(SIDECAR)) == (
        set(ConnectionState),
        set(ListenerState),
        set(SidecarState),
    )


def a_connection(sock: socket.socket) -> Connection:
    return Connection("b", LOCAL, Direction.INBOUND, sock, "127.0.0.1:1", SystemClock())


@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize("step", ConnectionStep)
def test_a_connection_takes_the_steps_of_its_table_and_no_others(state: ConnectionState, step: ConnectionStep) -> None:
    with socket.socket() as sock:
        connection = a_connection(sock)
        connection.state = state
        wanted = CONNECTION_STEPS.get((state, step))
        if wanted is None:
            with pytest.raises(KeyError):
                connection.step(step)
            assert connection.state is state
        else:
            connection.step(step)
            assert connection.state is wanted


def test_a_connection_shows_its_state_and_is_admitted_by_a_gate_that_allows_it_only() -> None:
    with socket.socket() as sock:
        connection = a_connection(sock)
        assert repr(connection) == "<Connection b inbound 127.0.0.1:1 [accepted]>"
        with pytest.raises(NotAuthorizedError):
            connection.admit(Gate(authorize_any()), Request(None, LOCAL))
        assert connection.state is ACCEPTED
        connection.admit(Gate(authorize_any(), plaintext=True), Request(None, LOCAL))
        assert repr(connection) == "<Connection b inbound 127.0.0.1:1 [admitted]>"
        connection.part(sock)
        assert (connection.state, [parting.sock for parting in connection.partings]) == (PARTING, [sock])
