"""One stream of an HTTP/2 connection: its state as a table (RFC 9113, section 5.1) and its two windows. Pure."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["NEXT", "Ended", "RecentlyReset", "State", "Stream"]

#: At least this many of the streams that we reset are remembered, since frames of them may still arrive.
_REMEMBERED = 1000


class State(IntEnum):
    """Idle streams are those above the highest one that was opened; without push there are no reserved ones."""

    OPEN = 0
    HALF_CLOSED_LOCAL = 1
    HALF_CLOSED_REMOTE = 2
    CLOSED = 3


class Ended(IntEnum):
    """Which side sent END_STREAM."""

    BY_US = 0
    BY_PEER = 1


#: What END_STREAM leads to. A step that is not here can't be taken: none after CLOSED, and no side ends twice.
NEXT: dict[State, dict[Ended, State]] = {
    State.OPEN: {Ended.BY_US: State.HALF_CLOSED_LOCAL, Ended.BY_PEER: State.HALF_CLOSED_REMOTE},
    State.HALF_CLOSED_LOCAL: {Ended.BY_PEER: State.CLOSED},
    State.HALF_CLOSED_REMOTE: {Ended.BY_US: State.CLOSED},
    State.CLOSED: {},
}


_OPEN, _CLOSED = State.OPEN, State.CLOSED


class Stream:
    """One stream and its two windows, in bytes.

    - ``may_send``, ``may_receive``: what is left of the windows.
    - ``unreturned``: what the app has taken and for which no WINDOW_UPDATE was sent yet.
    - ``answered``: the request has its final response.
    - ``sends``, ``receives``: our side, the peer's side has not ended yet. Kept beside ``state``, because they are
      asked for each frame.

    No struct of ``msgspec``, as what else is made for each request: that is made four times as fast, but to set a field
    of it takes ten times as long, and here a dozen are set.
    """

    __slots__ = ("answered", "may_receive", "may_send", "number", "receives", "sends", "state", "unreturned")

    def __init__(self, number: int, may_send: int, may_receive: int) -> None:
        self.number = number
        self.may_send = may_send
        self.may_receive = may_receive
        self.state = _OPEN
        self.sends = self.receives = True
        self.unreturned = 0
        self.answered = False

    def end(self, side: Ended) -> bool:
        """Take the table's step; True if it closes the stream. Raises KeyError if there is no such step."""
        state = self.state = NEXT[self.state][side]
        if side:
            self.receives = False
        else:
            self.sends = False
        return state is _CLOSED

    def __repr__(self) -> str:
        return f"<Stream {self.number} {self.state.name} [send {self.may_send}, receive {self.may_receive}]>"


class RecentlyReset:
    """The streams that we reset recently. A bounded set: the older half is dropped when the newer half is full."""

    __slots__ = ("_newer", "_older")

    def __init__(self) -> None:
        self._newer: set[int] = set()
        self._older: set[int] = set()

    def add(self, number: int) -> None:
        self._newer.add(number)
        if len(self._newer) >= _REMEMBERED:
            self._older, self._newer = self._newer, set()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def __contains__(self, number: int) -> bool:
        return number in self._newer or number in self._older
