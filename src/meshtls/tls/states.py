"""The states of one TLS connection of ``listen`` or ``dial``, as a table. Pure."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["NEXT", "StreamEvent", "StreamState"]


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
