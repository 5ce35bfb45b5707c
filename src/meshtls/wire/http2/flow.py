"""One direction of one exchange: the body and the trailers, from a stream of one side to a stream of the other. Pure.

What the other side's windows do not admit is kept, and the sender gets no window for it, so that a stream whose reader
is slow stops its own sender and nobody else's.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from meshtls.wire.http2.frames import ErrorCode, ProtocolError

if TYPE_CHECKING:
    from meshtls.wire.http2.side import HttpSide, HttpStream

__all__ = ["Flow", "Progress"]

#: The most bytes that one stream sends before the next one gets its turn.
_TURN = 1 << 14


class Progress(IntEnum):
    """What a flow made of its turn: it has nothing more that its stream's window admits; it has; the side is full."""

    RESTS = 0
    MOVED = 1
    BLOCKED = 2


class Flow:
    """``push`` what arrives from ``source``; it goes on to ``target`` once that is there (``start``).

    - ``origin``, ``goal``: the two streams. A body of our own has no origin.
    - ``left``: bytes of the body that Content-Length still promises, if it was given.
    - ``queued``: waits for its turn at the target.
    - ``dropping``: nothing goes on any more. What arrives is counted down from ``may_drop``, and then the sender's
      stream is reset.
    """

    __slots__ = ("backlog", "dropping", "ended", "goal", "left", "may_drop", "origin", "queued", "source", "target")

    def __init__(self, source: HttpSide | None, origin: HttpStream | None, left: int | None) -> None:
        self.source = source
        self.origin = origin
        self.target: HttpSide | None = None
        self.goal: HttpStream | None = None
        self.left = left
        self.backlog = bytearray()
        #: The end of the body has arrived: b"", or with the block of its trailers.
        self.ended: bytes | None = None
        self.queued = self.dropping = False
        self.may_drop = 0

    def start(self, target: HttpSide, goal: HttpStream) -> None:
        self.target, self.goal = target, goal
        goal.fed = self
        if self.backlog or self.ended is not None:
            self._queue()

    def push(self, data: memoryview | bytes, ended: bool) -> None:
        """DATA arrived. Raises ProtocolError of the stream if the body is not as long as Content-Length says."""
        count = len(data)
        if self.left is not None:
            self._count(count, ended)
        target, goal = self.target, self.goal
        if target is not None and goal is not None and not self.backlog and not self.dropping:
            room = goal.may_send if goal.may_send < target.may_send else target.may_send
            if count <= room and count <= target.peer.max_frame and not target.full:
                target.put(goal, data, ended)
                if self.source is not None and self.origin is not None:
                    self.source.taken(self.origin, count)
                return
        self._keep(data, count, ended)

    def end(self, trailers: bytes) -> None:
        """The body ended with these trailers, which may be empty. Raises ProtocolError as ``push`` does."""
        if self.left is not None:
            self._count(0, True)
        self.ended = trailers
        target, goal = self.target, self.goal
        if self.dropping or target is None or goal is None:
            return
        if self.backlog or self.queued or target.full or not goal.sends:
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
        if self.ended == b"":
            target.put(goal, b"", True)
        elif self.ended is not None:
            target.send_head(goal, self.ended, ended=True)

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

    def _queue(self) -> None:
        if self.target is not None and not self.queued:
            self.target.queue(self)

    def _count(self, count: int, ended: bool) -> None:
        left = self.left = (self.left or 0) - count
        if left < 0 or (ended and left):
            number = 0 if self.origin is None else self.origin.number
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted a body as long as Content-Length says", number)
