"""The states of a sidecar, of its listeners and of its connections, as tables. Pure.

A step that is not in a table can't be taken: it raises KeyError.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "CONNECTION",
    "LISTENER",
    "SIDECAR",
    "ConnectionState",
    "ConnectionStep",
    "ListenerState",
    "ListenerStep",
    "SidecarState",
    "SidecarStep",
]


class ConnectionState(IntEnum):
    """How far a connection is, or a stream of a tunnel.

    - ACCEPTED: it waits for its task, for a slot, or for a tunnel.
    - DETECTING: it waits for the first bytes, which show whether it speaks TLS.
    - HANDSHAKING: the TLS handshake with the peer.
    - ADMITTED: the peer is verified and authorized, or its plaintext is allowed. Inbound, the app is dialled next.
    - RELAYING: bytes move. For a tunnel itself: it takes streams.
    - PARTING: it is refused, and the peer has still to read the alert.
    - ENDED: it is reported. Its sockets are closed, but for one that lingers until the peer has read an alert.
    """

    ACCEPTED = 0
    DETECTING = 1
    HANDSHAKING = 2
    ADMITTED = 3
    RELAYING = 4
    PARTING = 5
    ENDED = 6


class ConnectionStep(IntEnum):
    """What moves a connection on. RETRY: its stream was refused unprocessed, and is opened on another tunnel."""

    DETECT = 0
    HANDSHAKE = 1
    ADMIT = 2
    RELAY = 3
    RETRY = 4
    PART = 5
    END = 6


_A, _AT = ConnectionState, ConnectionStep
_ENDS = {_AT.PART: _A.PARTING, _AT.END: _A.ENDED}
#: A warm connection and a stream of a tunnel skip the handshake, which was made before. If the server refuses a resumed
#: session, a second handshake follows on a new socket.
CONNECTION: dict[ConnectionState, dict[ConnectionStep, ConnectionState]] = {
    _A.ACCEPTED: {
        _AT.DETECT: _A.DETECTING,
        _AT.HANDSHAKE: _A.HANDSHAKING,
        _AT.ADMIT: _A.ADMITTED,
        _AT.RELAY: _A.RELAYING,
        **_ENDS,
    },
    _A.DETECTING: {_AT.HANDSHAKE: _A.HANDSHAKING, _AT.ADMIT: _A.ADMITTED, **_ENDS},
    _A.HANDSHAKING: {_AT.HANDSHAKE: _A.HANDSHAKING, _AT.ADMIT: _A.ADMITTED, **_ENDS},
    _A.ADMITTED: {_AT.RELAY: _A.RELAYING, **_ENDS},
    _A.RELAYING: {_AT.RETRY: _A.ACCEPTED, **_ENDS},
    _A.PARTING: {_AT.HANDSHAKE: _A.HANDSHAKING, **_ENDS},
    _A.ENDED: {_AT.END: _A.ENDED},
}


class ListenerState(IntEnum):
    """What a listener does.

    - BOUND: nobody accepts yet; connections wait in the kernel.
    - ACCEPTING: each connection is handed on as it arrives.
    - PAUSED: accept failed for want of descriptors or memory; it is tried again soon.
    - CLOSED: connections are refused.
    """

    BOUND = 0
    ACCEPTING = 1
    PAUSED = 2
    CLOSED = 3


class ListenerStep(IntEnum):
    """What moves a listener on."""

    ACCEPT = 0
    FAIL = 1
    CLOSE = 2


_L, _LT = ListenerState, ListenerStep
LISTENER: dict[ListenerState, dict[ListenerStep, ListenerState]] = {
    _L.BOUND: {_LT.ACCEPT: _L.ACCEPTING, _LT.CLOSE: _L.CLOSED},
    _L.ACCEPTING: {_LT.FAIL: _L.PAUSED, _LT.CLOSE: _L.CLOSED},
    _L.PAUSED: {_LT.ACCEPT: _L.ACCEPTING, _LT.CLOSE: _L.CLOSED},
    _L.CLOSED: {_LT.CLOSE: _L.CLOSED},
}


class SidecarState(IntEnum):
    """Whether a sidecar serves.

    - NEW: its listeners are not bound, or bound and do not accept yet.
    - SERVING: it accepts connections, and takes new configurations.
    - DRAINING: it accepts no more; live connections go on to their end or to the deadline.
    - STOPPED: no connection lives.
    """

    NEW = 0
    SERVING = 1
    DRAINING = 2
    STOPPED = 3


class SidecarStep(IntEnum):
    """What moves a sidecar on."""

    SERVE = 0
    DRAIN = 1
    STOP = 2


_S, _ST = SidecarState, SidecarStep
SIDECAR: dict[SidecarState, dict[SidecarStep, SidecarState]] = {
    _S.NEW: {_ST.SERVE: _S.SERVING},
    _S.SERVING: {_ST.DRAIN: _S.DRAINING},
    _S.DRAINING: {_ST.DRAIN: _S.DRAINING, _ST.STOP: _S.STOPPED},
    _S.STOPPED: {_ST.DRAIN: _S.STOPPED},
}
