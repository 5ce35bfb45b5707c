"""One stream of a tunnel as an end of a relay: no task, no timer, and nothing kept while it is idle.

What the relay transmits becomes one DATA frame, built in the buffer that it was received into, and the relay transmits
no more than the windows and the tunnel's socket have room for. What arrives on the stream is pushed into the relay. The
peer gets credit only for what the app has taken: at most the stream's window is kept, and other streams flow on.

A peer that has ended its side may leave, and what it sent is complete: the relay then goes on until the app has taken
it. A stream that the peer refuses unprocessed can be opened again elsewhere, so the first bytes of the app are
remembered until CONNECT is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import LARGE, SMALL, Callback, End
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.relay import Joined, Relay
from meshtls.wire.http2.connection import Http2Connection
from meshtls.wire.http2.frames import ErrorCode
from meshtls.wire.http2.streams import Stream

__all__ = ["Carrier", "OnDone", "StreamEnd", "StreamRefusedError"]

#: Bytes of the app's that are sent before CONNECT is answered, and remembered until then.
_REMEMBERED = SMALL

#: Called once with the error with which a stream ended; None for a clean end.
OnDone = Callable[["StreamEnd", Exception | None], None]


class StreamRefusedError(EndedError):
    """The peer refused this stream unprocessed (RFC 9113, section 8.7): it can be opened again elsewhere, with
    ``replay`` as the first bytes of the app.
    """

    def __init__(self, detail: str, replay: bytes) -> None:
        super().__init__(Outcome.STREAM_REFUSED, detail)
        self.replay = replay


class Carrier(Protocol):
    """The tunnel's session, as its streams see it."""

    http: Http2Connection
    poller: Poller
    #: The tunnel's socket takes no more for now.
    blocked: bool
    #: Streams to resume when there is room.
    waiting: set[StreamEnd]

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def put(self, stream: Stream, data: bytes | memoryview) -> None:
        """Send these bytes as one DATA frame; the windows have room for them."""

    def flush_soon(self) -> None:
        """Schedule the sending of ``http.outgoing``."""

    def forget(self, end: StreamEnd) -> None:
        """This stream has ended."""

    def keep(self, end: StreamEnd, count: int) -> None:
        """Count ``count`` more bytes as kept for its app."""

    def release(self, end: StreamEnd, count: int) -> None:
        """Count ``count`` fewer bytes as kept."""


class StreamEnd:
    """One stream of a tunnel, as an end of a relay. ``on_done`` is called once, when the stream and, once it has been
    joined, its relay are over.

    - ``kept``: bytes that arrived and that the app has not taken.
    - ``unanswered_since``: when the stream was opened, by the session's clock, as long as CONNECT has no answer.
    - ``ended``: the peer has sent END_STREAM.
    - ``discards``: the peer has left after that; see ``left``.
    - ``over``: ``on_done`` was called.
    """

    __slots__ = (
        "_broken",
        "_carrier",
        "_early",
        "_error",
        "_fresh",
        "_on_done",
        "_pushed",
        "_read",
        "_relay",
        "_remembered",
        "_rest",
        "_room",
        "_write",
        "discards",
        "ended",
        "kept",
        "over",
        "stream",
        "unanswered_since",
    )

    pushes = windowed = True
    owed = 0

    def __init__(self, carrier: Carrier, stream: Stream, on_done: OnDone, *, remembers: bool) -> None:
        """``remembers``: keep the app's first bytes, to open the stream again elsewhere if it is refused."""
        self._carrier = carrier
        self._on_done = on_done
        self._relay: Joined | None = None
        self._read: Callback = None
        self._write: Callback = None
        self._broken: Callback = None
        self._error: Exception | None = None
        #: What arrived before there was a relay.
        self._early: bytes | bytearray = b""
        #: What has just arrived, and how much of what was received is not in ``kept``.
        self._pushed: bytes | memoryview = b""
        self._fresh = 0
        #: Bytes to transmit for which there was no room.
        self._rest: bytes | bytearray = b""
        #: What ``room`` returned last.
        self._room = 0
        self._remembered: bytearray | None = bytearray() if remembers else None
        self.stream = stream
        self.kept = 0
        self.ended = self.discards = self.over = False
        self.unanswered_since: float | None = carrier.now()

    def join(self, app: End, flow: Flow, *, app_opened: bool) -> None:
        """Relay bytes between the stream and the app from now on. The stream may be over when this returns."""
        opener, other = (app, self) if app_opened else (self, app)
        self._relay = Relay(opener, other, flow, self._carrier.poller, self.closed, self._carrier.now())
        self._relay.start()

    def carry(self, relay: Joined) -> None:
        """Have the bytes moved by ``relay``, which calls ``closed`` at its end. It may be over when this returns."""
        self._relay = relay
        relay.start()

    @property
    def refusable(self) -> bool:
        """CONNECT has no answer yet, and all bytes that the app has sent can be resent."""
        return self._remembered is not None

    def is_idle_since(self, moment: float) -> bool:
        """Whether the stream was opened, and the last byte moved, before ``moment``."""
        last = self.unanswered_since if self._relay is None else self._relay.last
        return last is not None and last < moment

    def touch(self) -> None:
        """Restart the idle timeout, although no byte has moved."""
        if self._relay is not None:
            self._relay.last = self._carrier.now()

    # -- as an end: from the app into the stream --

    @property
    def unsent(self) -> int:
        return len(self._rest)

    def room(self) -> int:
        if self.discards:
            return LARGE
        room = 0 if self._carrier.blocked else self._carrier.http.room(self.stream)
        if self._remembered is not None:
            room = min(room, _REMEMBERED - len(self._remembered))
        self._room = room
        return room

    def transmit(self, data: bytes | memoryview) -> bool:
        if self.discards or self.over:
            return True
        if self._remembered is not None:
            self._remembered += data
        if self._rest or len(data) > self._room:
            self._rest = bytearray(self._rest) if isinstance(self._rest, bytes) else self._rest
            self._rest += data
            return self.flush()
        self._carrier.put(self.stream, data)
        return True

    def flush(self) -> bool:
        self.check()
        carrier = self._carrier
        while self._rest and not carrier.blocked and (room := carrier.http.room(self.stream)) > 0:
            piece, self._rest = bytes(self._rest[:room]), self._rest[room:]
            carrier.put(self.stream, piece)
        return not self._rest

    def finish(self, last: bool = False) -> bool:
        if not self.discards and not self.over:
            self._carrier.http.finish(self.stream)
            self._carrier.flush_soon()
        return True

    # -- as an end: from the stream to the app --

    def unread(self, data: bytes) -> None:
        """The bytes are counted in ``kept`` already."""
        self._early = data + bytes(self._early)

    def first(self, limit: int = LARGE) -> bytes | memoryview:
        early, self._early = self._early, b""
        return memoryview(early)

    def receive(self, limit: int = LARGE) -> bytes | memoryview | None:
        if self._error is not None:
            raise self._error
        data, self._pushed = self._pushed, b""
        self._fresh = len(data)
        return data or None

    def settle(self, unsent: int) -> None:
        before, fresh, self._fresh = self.kept, self._fresh, 0
        if not unsent and not before:
            self._carrier.http.taken(self.stream, fresh)
            return
        unsent += len(self._early)  # kept here, and not received yet
        unsent = min(unsent, before + fresh)  # the rest of a TLS end is ciphertext, and longer
        self.kept = unsent
        if unsent > before:
            self._carrier.keep(self, unsent - before)
            if self.over:
                return
        taken = before + fresh - unsent
        if taken:
            self._carrier.http.taken(self.stream, taken)
        if unsent < before:
            self._carrier.release(self, before - unsent)
            self._carrier.flush_soon()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def watch(self, poller: Poller, read: Callback, write: Callback, broken: Callback = None) -> None:
        self._read, self._broken = read, broken
        if write is not None:
            self._carrier.waiting.add(self)
        elif self._write is not None:
            self._carrier.waiting.discard(self)
        self._write = write

    # -- what the session tells --

    def deliver(self, data: bytes | memoryview, ended: bool) -> None:
        """Take what arrived on the stream; ``ended``: it is the last."""
        self.ended = ended
        if self._read is not None:
            self._pushed = data
            self._read()
        elif data:
            self._early = self._early or bytearray()
            self._early += data
            self.kept += len(data)
            self._carrier.keep(self, len(data))

    def answered(self) -> None:
        """The peer has accepted the stream: it is not opened elsewhere, and the app's bytes need not be remembered."""
        self.unanswered_since = self._remembered = None
        self.resume()

    def resume(self) -> None:
        """There may be room again."""
        if self._write is not None:
            self._write()

    def credited(self) -> None:
        """The peer has returned credit, so its app reads: the stream is not idle."""
        self.touch()
        self.resume()

    def replenish(self) -> None:
        """If the app is slow, return credit for less than half a window too: the peer learns that the app reads."""
        stream, http = self.stream, self._carrier.http
        if self.kept and stream.unreturned and stream.number in http.streams:
            http.replenish_window(stream)
            self._carrier.flush_soon()

    # -- the end --

    def break_off(self, error: Exception, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Reset the stream, and end."""
        if not self.over:
            self._carrier.http.reset(self.stream, code)
            self._carrier.flush_soon()
            self.lost(error)

    def refused(self, detail: str) -> None:
        """The peer has not processed the stream, where it is ``refusable``."""
        self.lost(StreamRefusedError(detail, bytes(self._remembered or b"")))

    def left(self, error: Exception) -> None:
        """The peer reads no more. If it had ended its side, what it sent is complete, and the app still gets it; else
        the stream is ``lost``.
        """
        if not self.ended or self._relay is None:
            self.lost(error)
        elif not self.over:
            self.discards, self._rest = True, b""
            self.resume()

    def lost(self, error: Exception) -> None:
        """The stream is gone: notify its relay by whichever callback is set, as the poller would for a socket."""
        if self.over:
            return
        self._error = error
        told = self._read or self._write or self._broken
        if told is not None:
            told()
        elif self._relay is not None:
            self._relay.end(error)
        else:
            self.closed(error)

    def closed(self, error: Exception | None) -> None:
        """The relay is over, or was never started."""
        self.over = True
        carrier = self._carrier
        if error is not None and self._error is None:
            # RFC 9113, section 8.5: an error of the TCP connection is a stream error CONNECT_ERROR.
            app_broke = isinstance(error, EndedError)
            carrier.http.reset(self.stream, ErrorCode.CONNECT_ERROR if app_broke else ErrorCode.INTERNAL_ERROR)
            carrier.flush_soon()
        elif error is None and not self.ended and not self.discards:
            # RFC 9113, section 8.1: all was answered, and the rest of what the peer sends is not wanted.
            carrier.http.reset(self.stream, ErrorCode.NO_ERROR)
            carrier.flush_soon()
        self._error = self._relay = None
        if self.kept:
            kept, self.kept = self.kept, 0
            carrier.release(self, kept)
        carrier.forget(self)
        self._on_done(self, error)

    def __repr__(self) -> str:
        return f"<StreamEnd {self.stream!r} [{self.kept} bytes kept]>"
