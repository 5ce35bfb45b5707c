"""One direction of one exchange: the body and the trailers, from a stream of one side to a stream of the other. Pure.

What the other side's windows do not admit is kept, and the sender gets no window for it, so that a stream whose reader
is slow stops its own sender and nobody else's.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from meshtls.wire.http2.frames import ErrorCode, ProtocolError

if TYPE_CHECKING:
    from meshtls.wire.http2.side import HttpSide, HttpStream

__all__ = ["FULL", "Flow", "Progress"]

#: Bytes that wait to be written at a side: from here on nothing more is moved there, nor is the other side read.
FULL = 1 << 18
#: The most bytes that one stream sends before the next one gets its turn.
_TURN = 1 << 14


class Progress(IntEnum):
    """What a flow made of its turn: it has nothing more that its stream's window admits; it has; the side is full."""

    RESTS = 0
    MOVED = 1
    BLOCKED = 2


class Flow(msgspec.Struct, eq=False):
    """A body on its way from one stream to another. ``push`` what arrives from ``source``; it goes on to ``target``
    once that is there (``start``).

    - ``origin``, ``goal``: the two streams. A body of our own has no origin.
    - ``left``: bytes of the body that Content-Length still promises, if it was given.
    - ``queued``: waits for its turn at the target.
    - ``dropping``: nothing goes on any more. What arrives is counted down from ``may_drop``, and then the sender's
      stream is reset.
    """

    source: HttpSide | None
    origin: HttpStream | None
    left: int | None
    target: HttpSide | None = None
    goal: HttpStream | None = None
    backlog: bytearray = msgspec.field(default_factory=bytearray)
    #: The end of the body has arrived: b"", or with the block of its trailers.
    ended: bytes | None = None
    queued: bool = False
    dropping: bool = False
    may_drop: int = 0

    def start(self, target: HttpSide, goal: HttpStream) -> None:
        self.target, self.goal = target, goal
        goal.fed = self
        if self.backlog or self.ended is not None:
            self._queue()

    def push(self, data: memoryview | bytes, ended: bool) -> None:
        """DATA arrived. Raises ProtocolError of the stream if the body is not as long as Content-Length says."""
        count = len(data)
        left = self.left
        if left is not None:
            left = self.left = left - count
            if left < 0 or (ended and left):
                raise self._wrong_length()
        target, goal = self.target, self.goal
        if (
            target is None
            or goal is None
            or self.backlog
            or self.dropping
            or count > goal.may_send
            or count > target.may_send
            or count > target.peer.max_frame
            or len(target.outgoing) >= FULL
        ):
            self._keep(data, count, ended)
            return
        target.put(goal, data, ended)
        # A sender that has ended its stream needs no window.
        if not ended and self.source is not None and self.origin is not None:
            self.source.taken(self.origin, count)

    def end(self, trailers: bytes) -> None:
        """The body ended with these trailers, which may be empty. Raises ProtocolError as ``push`` does."""
        if self.left:
            raise self._wrong_length()
        self.ended = trailers
        target, goal = self.target, self.goal
        if self.dropping or target is None or goal is None:
            return
        if self.backlog or self.queued or len(target.outgoing) >= FULL or not goal.sends:
            self._queue()
        else:
            self._finish(target, goal)

    def drop(self, may_drop: int = 0) -> None:
        """Nothing goes on any more. The sender may use up its window, and as many more bytes: it had to read our
        answer to get them. After those its stream is reset.
        """
        self.dropping, self.left = True, None
        self.may_drop = may_drop + (self.origin.may_receive if self.origin is not None else 0)
        count = len(self.backlog)
        if count:
            self.backlog = bytearray()
            self._release(count)

    def turn(self) -> Progress:
        """Send what the windows admit, up to a limit."""
        target, goal = self.target, self.goal
        if self.dropping or target is None or goal is None or not goal.sends:
            return Progress.RESTS
        if not self.backlog:
            self._finish(target, goal)
            return Progress.RESTS
        count = min(len(self.backlog), goal.may_send, target.may_send, target.peer.max_frame, _TURN)
        if count <= 0:
            return Progress.BLOCKED if goal.may_send > 0 else Progress.RESTS
        last = count == len(self.backlog) and self.ended == b""
        with memoryview(self.backlog) as view:
            target.put(goal, view[:count], last)
        del self.backlog[:count]
        self._release(count)
        return Progress.MOVED if self.backlog or (self.ended is not None and not last) else Progress.RESTS

    def _finish(self, target: HttpSide, goal: HttpStream) -> None:
        if self.ended:
            target.send_head(goal, self.ended, True)
        elif self.ended is not None:
            target.put(goal, b"", True)

    def _keep(self, data: memoryview | bytes, count: int, ended: bool) -> None:
        if self.dropping:
            self._drop_more(count)
            return
        self.backlog += data
        if ended:
            self.ended = b""
        if self.source is not None:
            self.source.keep(count)
        if self.target is not None:
            self._queue()

    def _drop_more(self, count: int) -> None:
        if self.source is None or self.origin is None:
            return
        self.may_drop -= count
        if self.may_drop >= 0:
            self.source.taken(self.origin, count)
        elif not self.origin.sends:
            self.source.reset(self.origin, ErrorCode.NO_ERROR)

    @property
    def exhausted(self) -> bool:
        """More arrived than may be dropped: the sender's stream is reset once our own part of it is sent."""
        return self.dropping and self.may_drop < 0

    def _release(self, count: int) -> None:
        if self.source is not None and self.origin is not None:
            self.source.release(self.origin, count)

    def __repr__(self) -> str:
        return f"<Flow [{len(self.backlog)} bytes kept{', dropping' if self.dropping else ''}]>"

    def _queue(self) -> None:
        if self.target is not None and not self.queued:
            self.target.queue(self)

    def _wrong_length(self) -> ProtocolError:
        number = 0 if self.origin is None else self.origin.number
        return ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted a body as long as Content-Length says", number)
