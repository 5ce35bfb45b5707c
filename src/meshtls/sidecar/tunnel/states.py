"""How a tunnel's connection ends, as a table. Pure.

``wire/http2/states.py`` has the table of the HTTP/2 connection on it: whether streams are opened and accepted.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["NEXT", "SessionState", "Step"]


class SessionState(IntEnum):
    """How far a tunnel's connection is from its end. While it is OPEN, ``Http2State`` says whether streams are
    still opened and accepted.

    - OPEN: streams are carried.
    - FINISHING: there are no more streams, and what is left is sent, close_notify last.
    - LINGERING: we have ended our side. Closing the socket while the peer still sends would reset the connection, and
      the last bytes, the ends of streams among them, might not arrive.
    - OVER: the owner closes the socket. Streams that the peer had ended may still go on.
    """

    OPEN = 0
    FINISHING = 1
    LINGERING = 2
    OVER = 3


class Step(IntEnum):
    """What moves a session on.

    - EMPTIED: the last stream of a leaving connection is gone, or the peer has sent close_notify.
    - FLUSHED: the kernel has our close_notify.
    - CLOSED: the peer has ended its side, or its time is over; in an earlier state, the connection broke or was ended.
    """

    EMPTIED = 0
    FLUSHED = 1
    CLOSED = 2


#: A step that is not here can't be taken.
NEXT: dict[SessionState, dict[Step, SessionState]] = {
    SessionState.OPEN: {Step.EMPTIED: SessionState.FINISHING, Step.CLOSED: SessionState.OVER},
    SessionState.FINISHING: {Step.FLUSHED: SessionState.LINGERING, Step.CLOSED: SessionState.OVER},
    SessionState.LINGERING: {Step.CLOSED: SessionState.OVER},
    SessionState.OVER: {},
}
