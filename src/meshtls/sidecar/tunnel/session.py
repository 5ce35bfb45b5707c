"""A tunnel's own connection: TLS, HTTP/2 and the poller under its streams. The client's and the server's share this.

Small frames of one wake-up are sent together, in one TLS record and one send; a large one is sent at once, from the
buffer into which it was received. One tick checks all timeouts of a tunnel, so that a stream costs no timer; a timeout
may fire late by a quarter of its length.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from meshtls.errors import HandshakeError, MeshtlsError
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.states import NEXT, SessionState, Step
from meshtls.sidecar.tunnel.stream_end import StreamEnd
from meshtls.tls.engine import MAX_OWED
from meshtls.wire.http2.connection import Http2Connection
from meshtls.wire.http2.frames import HEADER_BYTES, ErrorCode, ProtocolError
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream

__all__ = ["OnEnd", "Session"]

#: Called once with the error with which a tunnel ended; None for a clean end.
OnEnd = Callable[[Exception | None], None]

#: A frame shorter than this waits for the end of the wake-up, to share a record with others.
_SMALL = 1 << 12
_TICKS = 4
#: A tunnel without streams is closed after this many idle timeouts, also if its drain has not finished.
_FORCED_IDLE_FACTOR = 3
#: Seconds for which a peer may keep its side open after we have ended ours.
_LINGER_SECONDS = 30.0
_DROPPED = 1 << 12


_OPEN, _FINISHING, _LINGERING, _OVER = SessionState


class Session:
    """One tunnel: HTTP/2 on a TLS connection, and its streams. ``on_end`` is called once, when the connection is over
    and every stream on it was notified. A stream that the peer had ended before goes on without the connection until
    its app has taken all of it.

    A stream is reset after ``idle_timeout`` seconds without a byte; ``tick`` drains a tunnel without streams.
    """

    def __init__(
        self,
        end: TlsEnd,
        bounds: TunnelBounds,
        memory: ReceiveMemory,
        reactor: Reactor,
        *,
        client: bool,
        idle_timeout: float,
        on_end: OnEnd,
    ) -> None:
        self._loop = reactor.loop
        self._end = end
        self._on_end = on_end
        self._idle = idle_timeout
        self._streams: dict[int, StreamEnd] = {}
        self._flush_is_scheduled = False
        self._lingers_until = 0.0
        self._empty_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._memory = memory
        self.now = reactor.loop.time
        self.state = _OPEN
        self.http = Http2Connection(self, bounds, memory, client=client)
        self.poller = reactor.poller
        self._buffers = reactor.buffers
        self.blocked = False
        self.waiting: set[StreamEnd] = set()

    def start(self) -> None:
        """Send our preface, start receiving, and process what arrived with the handshake."""
        self._empty_since = self.now()
        self._tick()
        self._guarded(self._begin)

    @property
    def over(self) -> bool:
        return self.state is _OVER

    @property
    def empty(self) -> bool:
        """Whether it carries no stream."""
        return not self._streams

    def drain(self) -> None:
        """Take no new streams, and end with the last present one."""
        self._guarded(self.http.drain)

    def break_off(self, error: Exception, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """End the tunnel now, and every stream on it. ``code`` is sent in GOAWAY."""
        if self.state is _LINGERING:
            self._close(None)
        elif not self.over:
            self.http.close(code)
            self._send_goaway()
            for end in list(self._streams.values()):
                end.lost(error)
            self._close(error)

    # -- for its streams --

    def put(self, stream: Stream, data: bytes | memoryview) -> None:
        count = len(data)
        header = self.http.data_header(stream, count)
        framed = self._buffers.with_headroom(data) if count >= _SMALL else None
        if framed is None:
            self.http.outgoing += header
            self.http.outgoing += data
            self.flush_soon()
        elif self.state is not _OVER:
            framed[:HEADER_BYTES] = header
            try:
                self.flush()
                if not self._end.transmit(framed):
                    self._block()
            except Exception as error:  # noqa: BLE001  # see ``_fail``
                self._fail(error)

    def flush_soon(self) -> None:
        if not self._flush_is_scheduled:
            self._flush_is_scheduled = True
            self.poller.defer(self._flush_now)

    def keep(self, end: StreamEnd, count: int) -> None:
        self.http.kept += count
        self._memory.keep(end, count)
        if self._memory.tight and not self.over:
            self._memory.when_eased(self._renew)

    def release(self, end: StreamEnd, count: int) -> None:
        self.http.kept -= count
        self._memory.release(end, count)
        self._renew()

    def _renew(self) -> None:
        self._guarded(self.http.replenish_connection_window)

    def forget(self, end: StreamEnd) -> None:
        if self._streams.pop(end.stream.number, None) is not None and not self._streams:
            self._empty_since = self.now()
            if self.http.leaving:
                self.flush_soon()

    # -- what arrives --

    def _begin(self) -> None:
        self._end.watch(self.poller, self._on_readable, None)
        first = self._end.first()
        if first:
            self.http.feed(memoryview(first))
        self._after_receiving()

    def _on_readable(self) -> None:
        # As in ``_guarded``: this and ``_flush_now`` are called for each wake-up.
        if self.state is _OVER:
            return
        try:
            data = self._end.receive()
            if data is not None:
                self.http.feed(data)
            self._after_receiving()
            if self.http.outgoing or self.http.leaving:
                self.flush_soon()
        except Exception as error:  # noqa: BLE001  # see ``_fail``
            self._fail(error)

    def _after_receiving(self) -> None:
        if self._end.ended and self.state is not _OVER:
            if self.http.streams:
                raise EndedError(Outcome.RESET, "the tunnel's peer ended it in the middle of streams")
            self._finish()
        if self._end.owed and self.state is _OPEN:
            self._block()

    def received(self, stream: Stream, data: memoryview | bytes, ended: bool) -> None:
        end = self._streams.get(stream.number)
        if end is not None:
            end.deliver(data, ended)

    def broken(self, stream: Stream, code: ErrorCode, by_peer: bool) -> None:
        end = self._streams.get(stream.number)
        if end is None:
            return
        how = "the peer reset the stream" if by_peer else "the peer broke a rule of HTTP/2 on the stream"
        error = EndedError(Outcome.RESET, f"{how}: {code.name}")
        if by_peer and code is ErrorCode.NO_ERROR:
            end.left(error)
        else:
            end.lost(error)

    def window_grew(self, stream: Stream | None) -> None:
        if stream is None:
            for end in list(self.waiting):
                end.resume()
        elif (one := self._streams.get(stream.number)) is not None:
            one.credited()

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        """The peer opened a stream; the server overrides this to answer it."""

    def refused(self, error: ProtocolError) -> None:
        """HTTP/2 refused a stream of the peer's; the server overrides this to report it."""

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        """CONNECT was answered; the client overrides this."""

    def tick(self, now: float) -> None:
        """Called after each quarter of the shortest timeout."""

    # -- what is sent --

    def flush(self) -> None:
        """Send what is in ``http.outgoing``, unless the socket is full. Raises EndedError."""
        outgoing = self.http.outgoing
        if not outgoing or self.blocked or self.state >= _LINGERING:
            return
        taken = self._end.transmit(outgoing)
        outgoing.clear()
        if not taken:
            self._block()

    def _flush_now(self) -> None:
        try:
            self.flush()
            if self.http.leaving and self.state is not _OVER and not self._streams and not self.http.streams:
                self._finish()
        except Exception as error:  # noqa: BLE001  # see ``_fail``
            self._fail(error)
        self._flush_is_scheduled = False

    def _block(self) -> None:
        self.blocked = True
        read = None if self._end.owed > MAX_OWED else self._on_readable
        self._end.watch(self.poller, read, partial(self._guarded, self._resume))

    def _resume(self) -> None:
        if not self._end.flush():
            for end in self.waiting:
                if self.http.room(end.stream) > 0:
                    end.touch()  # a slow peer took some bytes: streams that only wait for the socket are not idle
            return
        self.blocked = False
        if self.state is _FINISHING:
            self._linger()
            return
        self._end.watch(self.poller, self._on_readable, None)
        self.window_grew(None)

    # -- the end --

    def _step(self, step: Step) -> None:
        self.state = NEXT[self.state][step]

    def _finish(self) -> None:
        if self.state is not _OPEN:
            return
        self._step(Step.EMPTIED)
        try:
            finished = self._end.finish()
        except EndedError:
            finished = True  # the peer closed first, and nothing is lost
        if finished:
            self._linger()
        else:
            self._block()

    def _linger(self) -> None:
        self._step(Step.FLUSHED)
        self.blocked = False
        self._lingers_until = self.now() + _LINGER_SECONDS
        try:
            self._end.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(None)
        else:
            self._end.watch(self.poller, self._drop, None)

    def _drop(self) -> None:
        try:
            if self._end.sock.recv(_DROPPED):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass  # a reset ends it as well
        self._close(None)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step for a caller outside; its output is sent when the wake-up ends. An error ends the tunnel."""
        if self.state is _OVER:
            return
        try:
            step()
            if self.http.outgoing or self.http.leaving:
                self.flush_soon()
        except Exception as error:  # noqa: BLE001  # see ``_fail``
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the tunnel by what a callback raised: the poller must not see it, and the owner does."""
        if isinstance(error, ProtocolError):
            self._send_goaway()
            detail = f"the tunnel's peer broke a rule of HTTP/2: {error}"
            error = EndedError(Outcome.RESET, detail, self._end.parting())
        self._close(error)

    def _send_goaway(self) -> None:
        """Send what is queued, GOAWAY last, and close_notify, if the socket takes them."""
        try:
            self.flush()
            if not self.blocked:
                self._end.finish()
        except (EndedError, HandshakeError):
            return  # it is gone already

    def _close(self, error: Exception | None) -> None:
        if self.over:
            return
        self._step(Step.CLOSED)
        self._end.watch(self.poller, None, None)
        self._memory.forget(self._renew)
        if error is not None and not isinstance(error, MeshtlsError):
            self._loop.call_exception_handler({"message": "a tunnel failed", "exception": error})
        lost = error or EndedError(Outcome.RESET, "the tunnel ended")
        for end in list(self._streams.values()):
            end.left(lost)
        if self._timer is not None and not self._streams:
            self._timer.cancel()
        self._on_end(error)

    # -- time --

    def _tick(self) -> None:
        now = self.now()
        for end in list(self._streams.values()):
            if end.is_idle_since(now - self._idle):
                end.break_off(EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {self._idle:g} s"))
            else:
                end.replenish()
        if self.state is _LINGERING:
            if now > self._lingers_until:
                self._close(None)
        elif not self.over:
            self.tick(now)
            if not self._streams and self._empty_since < now - _FORCED_IDLE_FACTOR * self._idle:
                # The drain did not finish: the peer reads nothing, or does not acknowledge our PING.
                why = "the tunnel had no streams, and its peer did not let go"
                self.break_off(EndedError(Outcome.IDLE_TIMEOUT, why))
        if not self.over or self._streams:
            self._timer = self._loop.call_later(self._pace(), self._tick)

    def _pace(self) -> float:
        return self._idle / _TICKS

    def __repr__(self) -> str:
        session, http = self.state.name, self.http.state.name
        return f"<{type(self).__name__} {session}, HTTP/2 {http} [{len(self._streams)} streams]>"
