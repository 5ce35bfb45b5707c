"""Joins one stream of a tunnel to one plain socket, by callbacks: no task, no timer, nothing kept while it is idle.

What the socket gives goes into the tunnel as one DATA frame, built in the buffer it was received into. What the stream
gives goes to the socket at once; only what the socket does not take is kept, and not credited to the peer before it
has: that is at most the stream's window, and other streams flow on.

A peer that has ended its side may leave, and what it sent still is the app's: the splice then goes on by itself until
the app has taken all. What a peer refuses before it has looked at it can be sent again elsewhere, so the first bytes of
the app are remembered until CONNECT is answered.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Protocol

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import abort, close, error_of
from meshtls.wire.http2.connection import Http2Connection
from meshtls.wire.http2.frames import HEADER_BYTES, ErrorCode
from meshtls.wire.http2.settings import MAX_FRAME
from meshtls.wire.http2.streams import Stream

__all__ = ["Carrier", "OnDone", "Splice", "StreamRefusedError"]

#: Bytes of one receive; a socket that fills the smaller is given the larger.
_SMALL, _LARGE = 1 << 16, MAX_FRAME
#: Bytes of the app's that are sent before the answer to CONNECT, and remembered until then.
_REMEMBERED = _SMALL

#: Told once how a splice ended; None is well.
OnDone = Callable[["Splice", Exception | None], None]


class _Buffer(threading.local):
    def __init__(self) -> None:
        self.whole = memoryview(bytearray(HEADER_BYTES + _LARGE))
        self.payload = self.whole[HEADER_BYTES:]


_buffer = _Buffer()


class StreamRefusedError(EndedError):
    """The peer has not looked at this stream, and says so (RFC 9113, section 8.7): it can be opened again elsewhere,
    with ``unsent`` as the first bytes of the app.
    """

    def __init__(self, detail: str, unsent: bytes) -> None:
        super().__init__(Outcome.STREAM_REFUSED, detail)
        self.unsent = unsent


class Carrier(Protocol):
    """The tunnel, as its splices see it."""

    http: Http2Connection
    poller: Poller
    #: The tunnel's socket takes no more for now.
    blocked: bool
    #: Splices whose socket is not read until there is room.
    waiting: set[Splice]

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def put(self, stream: Stream, framed: memoryview, count: int) -> None:
        """Send ``count`` bytes, which lie behind the room for a frame's header at the start of ``framed``."""

    def flush_soon(self) -> None:
        """See that what is in ``http.outgoing`` is sent."""

    def forget(self, splice: Splice) -> None:
        """This splice has ended."""

    def keep(self, splice: Splice, count: int) -> None:
        """The splice keeps so many more bytes for its app."""

    def release(self, splice: Splice, count: int) -> None:
        """It keeps so many bytes fewer."""


class Splice:
    """One app's connection. By its carrier's clock ``last`` is when a byte last moved, ``asked_at`` when the stream was
    opened, as long as it has no answer.
    """

    __slots__ = (
        "_again",
        "_app_ended",
        "_carrier",
        "_done",
        "_flow",
        "_from_opener",
        "_peer_ended",
        "_peer_left",
        "_remembered",
        "_rest",
        "_size",
        "asked_at",
        "last",
        "over",
        "sock",
        "stream",
    )

    def __init__(
        self, carrier: Carrier, stream: Stream, flow: Flow, on_done: OnDone, *, from_opener: bool, again: bytes = b""
    ) -> None:
        """``from_opener``: the socket's side is the connection's opener, for the direction that ``flow`` counts, and
        the stream is to be answered. ``again`` was received from the socket before, and counted.
        """
        self._carrier = carrier
        self._done = on_done
        self._flow = flow
        self._from_opener = from_opener
        self._rest = bytearray()
        self._size = _SMALL
        self._app_ended = self._peer_ended = self._peer_left = False
        self._again = bytearray(again)
        self._remembered: bytearray | None = bytearray() if from_opener else None
        self.stream = stream
        self.sock: socket.socket | None = None
        self.over = False
        self.last = carrier.now()
        self.asked_at: float | None = self.last

    def join(self, sock: socket.socket) -> None:
        """From now on move bytes between the stream and this connected socket."""
        self.sock = sock
        self._watch()
        if not self._rest:
            self._pass_end()
        self._send_again()

    @property
    def kept(self) -> int:
        """Bytes that came and that the app has not taken."""
        return len(self._rest)

    @property
    def refusable(self) -> bool:
        """CONNECT has no answer yet, and nothing of the app's is lost if it gets none."""
        return self._remembered is not None

    # -- from the app into the stream --

    def on_readable(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001  # called from the poller: it ends this splice, and no other
            self.break_off(error, ErrorCode.INTERNAL_ERROR)

    def _read(self) -> None:
        carrier, sock, remembered = self._carrier, self.sock, self._remembered
        if sock is None:
            return
        if self._peer_left:
            self._drop(sock)
            return
        room = carrier.http.room(self.stream)
        if remembered is not None:
            room = min(room, _REMEMBERED - len(remembered))
        if carrier.blocked or room <= 0:
            carrier.waiting.add(self)
            self._watch()
            return
        size = min(room, self._size)
        if self._again:
            count = min(size, len(self._again))
            _buffer.payload[:count] = self._again[:count]
            del self._again[:count]
        else:
            try:
                count = sock.recv_into(_buffer.payload, size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._app_broke(f"the app broke off: {error}")
                return
            if not count:
                self._finish()
                return
            self._size = _LARGE if count == self._size else _SMALL if count < _SMALL else self._size
            self._count(count, from_app=True)
        if remembered is not None:
            remembered += _buffer.payload[:count]
        carrier.put(self.stream, _buffer.whole, count)

    def _send_again(self) -> None:
        """Send what another tunnel's peer has refused, as far as there is room."""
        while self._again and not self.over and self not in self._carrier.waiting:
            self._read()

    def _drop(self, sock: socket.socket) -> None:
        """Receive what nobody takes: a socket closed over it would take back what was sent last."""
        try:
            count = sock.recv_into(_buffer.payload)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._app_broke(f"the app broke off: {error}")
            return
        if not count:
            self._finish()

    def answered(self) -> None:
        """The peer has taken the stream on: what is sent now is not sent again."""
        self.asked_at = self._remembered = None
        if self in self._carrier.waiting:
            self.resume()

    def refused(self, detail: str) -> None:
        """The peer has not looked at the stream, where it is ``refusable``."""
        self._end(StreamRefusedError(detail, bytes(self._remembered or b"") + self._again))

    def _finish(self) -> None:
        """The app has ended its side."""
        self._app_ended = True
        carrier = self._carrier
        if not self._peer_left:
            carrier.http.finish(self.stream)
            carrier.flush_soon()
        if self._peer_ended and not self._rest:
            self._end(None)
        else:
            self._watch()

    def resume(self) -> None:
        """There may be room again."""
        self._carrier.waiting.discard(self)
        self._watch()
        self._send_again()

    def credited(self) -> None:
        """The peer's app has taken some of what we sent: it reads, however slowly."""
        self.last = self._carrier.now()
        if self in self._carrier.waiting:
            self.resume()

    # -- from the stream to the app --

    def received(self, data: memoryview | bytes, ended: bool) -> None:
        """Take what came on the stream; ``ended``: it is the last."""
        self._peer_ended, sent = ended, 0
        if data:
            self._count(len(data), from_app=False)
            if self.sock is not None and not self._rest:
                sent = self._send(data)
                if self.over:
                    return
            if sent < len(data):
                self._rest += data[sent:]
                self._watch()
                self._carrier.keep(self, len(data) - sent)
                if self.over:
                    return
        if sent:
            self._carrier.http.taken(self.stream, sent)
        self._pass_end()

    def on_writable(self) -> None:
        try:
            self._write_rest()
        except Exception as error:  # noqa: BLE001  # called from the poller: it ends this splice, and no other
            self.break_off(error, ErrorCode.INTERNAL_ERROR)

    def _write_rest(self) -> None:
        sent = self._send(self._rest)
        if self.over or not sent:
            return
        del self._rest[:sent]
        self.last = self._carrier.now()
        self._carrier.http.taken(self.stream, sent)
        self._carrier.release(self, sent)
        self._carrier.flush_soon()
        if not self._rest:
            self._watch()
            self._pass_end()

    def return_little(self) -> None:
        """Credit the peer with less than half a window, where the app is slow: it learns so that the app reads."""
        stream, http = self.stream, self._carrier.http
        if self._rest and stream.unreturned and stream.number in http.streams:
            http.replenish_window(stream)
            self._carrier.flush_soon()

    def _send(self, data: memoryview | bytes | bytearray) -> int:
        if self.sock is None:
            return 0
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._app_broke(f"the app takes no more: {error}")
            return 0

    def _pass_end(self) -> None:
        """Tell the app that no more comes, where that is so and it has taken all."""
        if not self._peer_ended or self._rest or self.sock is None:
            return
        if self._app_ended:
            self._end(None)
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._app_broke(f"the app is gone: {error}")

    # -- the end --

    def on_broken(self) -> None:
        """The socket is neither read nor written, and has news."""
        error = None if self.sock is None else error_of(self.sock)
        if error is not None:
            self._app_broke(f"the app broke off: {error}")

    def hang_up(self, error: Exception | None) -> None:
        """Close the socket as the splice ended: with a reset, unless both sides were done."""
        if self.sock is None:
            return
        if error is None:
            close(self.sock, self._carrier.poller)
        else:
            abort(self.sock, self._carrier.poller)

    def _app_broke(self, detail: str) -> None:
        # RFC 9113, section 8.5: an error of the TCP connection is a stream error CONNECT_ERROR.
        self.break_off(EndedError(Outcome.RESET, detail), ErrorCode.CONNECT_ERROR)

    def break_off(self, error: Exception, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Reset the stream, and end."""
        if self.over:
            return
        self._carrier.http.reset(self.stream, code)
        self._carrier.flush_soon()
        self._end(error)

    def lost(self, error: Exception) -> None:
        """The stream is gone already."""
        if not self.over:
            self._end(error)

    def left(self, error: Exception) -> None:
        """The peer takes no more. What it sent is complete if it had ended its side: the app still gets it. Else it is
        ``lost``.
        """
        if self.over:
            return
        if not self._peer_ended or self.sock is None:
            self._end(error)
            return
        self._peer_left = True
        self._carrier.waiting.discard(self)
        self._watch()

    def _end(self, error: Exception | None) -> None:
        self.over = True
        carrier = self._carrier
        if self._rest:
            kept = len(self._rest)
            self._rest.clear()
            carrier.release(self, kept)
        if self.sock is not None:
            carrier.poller.watch(self.sock, None, None)
        carrier.waiting.discard(self)
        carrier.forget(self)
        self._done(self, error)

    def _watch(self) -> None:
        if self.sock is None or self.over:
            return
        reads = not self._app_ended and self not in self._carrier.waiting
        read, write = self.on_readable if reads else None, self.on_writable if self._rest else None
        self._carrier.poller.watch(self.sock, read, write, None if read or write else self.on_broken)

    def _count(self, count: int, *, from_app: bool) -> None:
        self.last = self._carrier.now()
        if from_app is self._from_opener:
            self._flow.bytes_in += count
        else:
            self._flow.bytes_out += count

    def __repr__(self) -> str:
        return f"<Splice {self.stream!r} [{len(self._rest)} bytes kept]>"
