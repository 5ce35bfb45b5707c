"""The states of an engine, and of one TLS connection of ``listen`` or ``dial`` over it, as tables. Pure.

A step that is not in a table can't be taken: it raises KeyError.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ENGINE", "NEXT", "EngineState", "EngineStep", "StreamEvent", "StreamState"]


class EngineState(IntEnum):
    """How far TLS with the peer is.

    - HANDSHAKING: the peer is not verified yet. No application data is read or written.
    - OPEN: the peer is verified and allowed; records go both ways.
    - PEER_CLOSED: the peer has sent close_notify, and nothing more is read. We may still write.
    - WE_CLOSED: our close_notify is queued, and nothing more is written. The peer may still send.
    - CLOSED: both have sent close_notify.
    - REFUSED: the handshake failed: a side refused the other, or the wire ended. OpenSSL's alert, if any, is queued.
    - BROKEN: after the handshake a record could not be read or written, or the wire ended without close_notify.
    """

    HANDSHAKING = 0
    OPEN = 1
    PEER_CLOSED = 2
    WE_CLOSED = 3
    CLOSED = 4
    REFUSED = 5
    BROKEN = 6


class EngineStep(IntEnum):
    """What moves an engine on.

    - PROVEN: the handshake is done, and the peer verified and allowed.
    - CLOSED_BY_PEER: the peer's close_notify was read.
    - CLOSED_BY_US: our close_notify was queued, again maybe.
    - FAILED: an operation of TLS failed. What OpenSSL says after a failure changes nothing.
    """

    PROVEN = 0
    CLOSED_BY_PEER = 1
    CLOSED_BY_US = 2
    FAILED = 3


_E, _ES = EngineState, EngineStep
ENGINE: dict[EngineState, dict[EngineStep, EngineState]] = {
    _E.HANDSHAKING: {_ES.PROVEN: _E.OPEN, _ES.FAILED: _E.REFUSED},
    _E.OPEN: {_ES.CLOSED_BY_PEER: _E.PEER_CLOSED, _ES.CLOSED_BY_US: _E.WE_CLOSED, _ES.FAILED: _E.BROKEN},
    _E.PEER_CLOSED: {_ES.CLOSED_BY_US: _E.CLOSED, _ES.FAILED: _E.BROKEN},
    _E.WE_CLOSED: {_ES.CLOSED_BY_PEER: _E.CLOSED, _ES.CLOSED_BY_US: _E.WE_CLOSED, _ES.FAILED: _E.BROKEN},
    _E.CLOSED: {_ES.CLOSED_BY_US: _E.CLOSED, _ES.FAILED: _E.BROKEN},
    _E.REFUSED: {_ES.CLOSED_BY_PEER: _E.REFUSED, _ES.CLOSED_BY_US: _E.REFUSED, _ES.FAILED: _E.REFUSED},
    _E.BROKEN: {_ES.CLOSED_BY_PEER: _E.BROKEN, _ES.CLOSED_BY_US: _E.BROKEN, _ES.FAILED: _E.BROKEN},
}


class StreamState(IntEnum):
    """How far a connection is.

    - CONNECTING: there is no TCP connection yet.
    - CANCELLED: aborted by us before there was one.
    - HANDSHAKING: the peer is not verified yet, and the application is not notified.
    - OPEN: the peer is verified and allowed; bytes go both ways.
    - REFUSED: the handshake failed. The alert was sent, and what the peer still sends is dropped.
    - PARTING: a broken record ended an open connection. The alert was sent, and what the peer still sends is dropped.
    - CUT: aborted by us, without an alert to the peer.
    - CLOSED: the TCP connection is gone.
    """

    CONNECTING = 0
    CANCELLED = 1
    HANDSHAKING = 2
    OPEN = 3
    REFUSED = 4
    PARTING = 5
    CUT = 6
    CLOSED = 7


class StreamEvent(IntEnum):
    """What moves a connection on.

    - CONNECTED: the TCP connection is made.
    - PROVEN: the handshake is done, and the peer verified and allowed.
    - REFUSED: the peer is refused, or refuses; or we have no identity.
    - BROKEN: a record after the handshake can't be read.
    - ABORTED: our side ends it at once.
    - LOST: the TCP connection ended.
    """

    CONNECTED = 0
    PROVEN = 1
    REFUSED = 2
    BROKEN = 3
    ABORTED = 4
    LOST = 5


#: A step that is not here can't be taken.
NEXT: dict[StreamState, dict[StreamEvent, StreamState]] = {
    StreamState.CONNECTING: {
        StreamEvent.CONNECTED: StreamState.HANDSHAKING,
        StreamEvent.ABORTED: StreamState.CANCELLED,
    },
    StreamState.CANCELLED: {
        StreamEvent.CONNECTED: StreamState.CUT,
        StreamEvent.ABORTED: StreamState.CANCELLED,
    },
    StreamState.HANDSHAKING: {
        StreamEvent.PROVEN: StreamState.OPEN,
        StreamEvent.REFUSED: StreamState.REFUSED,
        StreamEvent.ABORTED: StreamState.CUT,
        StreamEvent.LOST: StreamState.CLOSED,
    },
    StreamState.OPEN: {
        StreamEvent.BROKEN: StreamState.PARTING,
        StreamEvent.ABORTED: StreamState.CUT,
        StreamEvent.LOST: StreamState.CLOSED,
    },
    StreamState.REFUSED: {StreamEvent.ABORTED: StreamState.CUT, StreamEvent.LOST: StreamState.CLOSED},
    StreamState.PARTING: {StreamEvent.ABORTED: StreamState.CUT, StreamEvent.LOST: StreamState.CLOSED},
    StreamState.CUT: {StreamEvent.ABORTED: StreamState.CUT, StreamEvent.LOST: StreamState.CLOSED},
    StreamState.CLOSED: {StreamEvent.ABORTED: StreamState.CLOSED},
}
