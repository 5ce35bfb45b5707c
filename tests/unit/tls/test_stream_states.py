"""The states of a connection of ``listen`` or ``dial``: the table's steps, and no other."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from meshtls.tls.protocol import TlsProtocol
from meshtls.tls.states import NEXT, StreamEvent, StreamState

C, S, E = StreamState.CONNECTING, StreamState, StreamEvent

WALKS = {
    "served and ended by the peer": ((E.CONNECTED, E.PROVEN, E.LOST), (S.HANDSHAKING, S.OPEN, S.CLOSED)),
    "refused": ((E.CONNECTED, E.REFUSED, E.LOST), (S.HANDSHAKING, S.REFUSED, S.CLOSED)),
    "refused and cut": ((E.CONNECTED, E.REFUSED, E.ABORTED, E.LOST), (S.HANDSHAKING, S.REFUSED, S.CUT, S.CLOSED)),
    "lost in the handshake": ((E.CONNECTED, E.LOST, E.ABORTED), (S.HANDSHAKING, S.CLOSED, S.CLOSED)),
    "broken": ((E.CONNECTED, E.PROVEN, E.BROKEN, E.LOST), (S.HANDSHAKING, S.OPEN, S.PARTING, S.CLOSED)),
    "cut while open": ((E.CONNECTED, E.PROVEN, E.ABORTED, E.LOST), (S.HANDSHAKING, S.OPEN, S.CUT, S.CLOSED)),
    "aborted before there was a connection": (
        (E.ABORTED, E.ABORTED, E.CONNECTED, E.LOST),
        (S.CANCELLED, S.CANCELLED, S.CUT, S.CLOSED),
    ),
}


@pytest.mark.parametrize(("events", "states"), WALKS.values(), ids=WALKS)
def test_a_connection_walks_through_the_table(events: tuple[StreamEvent, ...], states: tuple[StreamState, ...]) -> None:
    walked = tuple(itertools.accumulate(events, lambda state, event: NEXT[state][event], initial=C))
    assert walked == (C, *states)


FORBIDDEN = {
    "a peer is proven once": (S.OPEN, E.PROVEN),
    "a refused peer is not let in": (S.REFUSED, E.PROVEN),
    "a cut connection is not opened": (S.CUT, E.PROVEN),
    "an open connection is not refused": (S.OPEN, E.REFUSED),
    "a connection closes once": (S.CLOSED, E.LOST),
    "nothing is proven before there is a connection": (S.CONNECTING, E.PROVEN),
}


@pytest.mark.parametrize(("state", "event"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_step_outside_the_table_raises(state: StreamState, event: StreamEvent) -> None:
    with pytest.raises(KeyError):
        NEXT[state][event]


async def test_repr_shows_the_state() -> None:
    protocol = TlsProtocol(lambda tcp: pytest.fail("no connection was made"), asyncio.Protocol())
    assert repr(protocol) == "<TlsProtocol CONNECTING>"
    protocol.abort()
    assert repr(protocol) == "<TlsProtocol CANCELLED>"
