"""The states of an HTTP/2 connection as tables: how it ends, and what the peer has to send next. Pure."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["NEXT", "Expects", "Http2State", "Shutdown"]


class Http2State(IntEnum):
    """How far the connection is from its end (RFC 9113, section 6.8).

    - OPEN: streams are opened, or accepted.
    - DRAINING: a server has announced that it will leave. Streams that its peer opened before it heard of that are
      still accepted.
    - LEAVING: a GOAWAY with its last stream was sent or received. No more streams are opened or accepted; those that
      are open go on.
    - CLOSED: a GOAWAY with the reason is queued, and nothing more is read.
    """

    OPEN = 0
    DRAINING = 1
    LEAVING = 2
    CLOSED = 3


class Shutdown(IntEnum):
    """What moves a connection on.

    - ANNOUNCED: our GOAWAY names the highest stream that there can be.
    - BEGUN: our GOAWAY, or the peer's, names the last stream.
    - FORCED: the peer broke a rule, or the connection's owner ends it.
    """

    ANNOUNCED = 0
    BEGUN = 1
    FORCED = 2


#: A step that is not here can't be taken. The last frames of the receive in which a connection was closed may still be
#: a GOAWAY.
NEXT: dict[Http2State, dict[Shutdown, Http2State]] = {
    Http2State.OPEN: {
        Shutdown.ANNOUNCED: Http2State.DRAINING,
        Shutdown.BEGUN: Http2State.LEAVING,
        Shutdown.FORCED: Http2State.CLOSED,
    },
    Http2State.DRAINING: {
        Shutdown.BEGUN: Http2State.LEAVING,
        Shutdown.FORCED: Http2State.CLOSED,
    },
    Http2State.LEAVING: {
        Shutdown.BEGUN: Http2State.LEAVING,
        Shutdown.FORCED: Http2State.CLOSED,
    },
    Http2State.CLOSED: {Shutdown.BEGUN: Http2State.CLOSED},
}


class Expects(IntEnum):
    """What the peer has to send next, in this order; from then on FRAME and CONTINUATION take turns.

    - PREFACE: the client's connection preface (RFC 9113, section 3.4). A server's connection begins here.
    - SETTINGS: the first frame. A client's connection begins here.
    - FRAME: any frame.
    - CONTINUATION: the rest of a header block, which is one unit (section 4.3).
    """

    PREFACE = 0
    SETTINGS = 1
    FRAME = 2
    CONTINUATION = 3
