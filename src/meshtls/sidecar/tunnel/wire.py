"""A tunnel's own connection: TLS, HTTP/2 and the poller under its streams. The client's and the server's share this.

Small frames of one wake-up leave together, in one TLS record and one send; a large one leaves at once, from the buffer
that it was received into. All times of a tunnel are kept by one tick, so that a stream costs no timer: a timeout may be
a quarter of itself late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from meshtls.errors import HandshakeError, MeshtlsError
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.poller import poller
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.parting import Parting
from meshtls.sidecar.tunnel.splice import Splice
from meshtls.tls.engine import MAX_OWED
from meshtls.wire.http2.connection import Http2Connection
from meshtls.wire.http2.frames import HEADER_BYTES, ErrorCode, ProtocolError
from meshtls.wire.http2.headers import Request
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream

__all__ = ["OnEnd", "Wire"]

#: Told once how a tunnel ended; None is well.
OnEnd = Callable[[Exception | None], None]

#: A frame shorter than this waits for the end of the wake-up, to share a record with others.
_SMALL = 1 << 12
_TICKS = 4
#: Times the idle timeout after which a tunnel without streams is closed, whatever its peer still owes us.
_LAST_PATIENCE = 3


class Wire:
    """``on_end`` is called once, when the connection is over and every stream on it has been told. A stream that the
    peer had ended before goes on alone until its app has taken all of it.

    Streams are idle for at most ``idle_timeout`` seconds; so is a tunnel without streams.
    """

    def __init__(
        self,
        end: TlsEnd,
        bounds: TunnelBounds,
        memory: ReceiveMemory,
        *,
        client: bool,
        idle_timeout: float,
        on_end: OnEnd,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._on_end = on_end
        self._idle = idle_timeout
        self._splices: dict[int, Splice] = {}
        self._scheduled = False
        self._finishing = False
        self._parting: Parting | None = None
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.now = time.monotonic
        self._memory = memory
        self.http = Http2Connection(self, bounds, memory, client=client)
        self.poller = poller()
        self.blocked = False
        self.waiting: set[Splice] = set()
        self.over = False

    def start(self) -> None:
        """Speak, listen, and take in what came with the handshake."""
        self._last = self.now()
        self._tick()
        self._guarded(self._begin)

    @property
    def ending(self) -> bool:
        """No more streams come or go; only what was sent is waited for."""
        return self.over or self._finishing

    def drain(self) -> None:
        """Take no new streams, and end with the last of those that are."""
        self._guarded(self.http.drain)

    def break_off(self, error: Exception, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """End it now, and every stream with it. ``code`` is what the peer is told."""
        if self.over:
            return
        if self._parting is not None:
            self._close(None)
            return
        self.http.close(code)
        self._farewell()
        for splice in list(self._splices.values()):
            splice.lost(error)
        self._close(error)

    # -- for the splices --

    def put(self, stream: Stream, framed: memoryview, count: int) -> None:
        header = self.http.data_header(stream, count)
        if count < _SMALL:
            self.http.outgoing += header
            self.http.outgoing += framed[HEADER_BYTES : HEADER_BYTES + count]
            self.flush_soon()
        else:
            framed[:HEADER_BYTES] = header
            self._guarded(lambda: self._put_now(framed[: HEADER_BYTES + count]))

    def flush_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.poller.defer(self._flush_now)

    def flush(self) -> None:
        """Send what is in ``http.outgoing``, unless the socket is full. Raises EndedError."""
        outgoing = self.http.outgoing
        if not outgoing or self.blocked or self.over or self._parting is not None:
            return
        with memoryview(outgoing) as data:
            taken = self._end.transmit(data)
        outgoing.clear()
        if not taken:
            self._block()

    def keep(self, splice: Splice, count: int) -> None:
        self.http.kept += count
        self._memory.keep(splice, count)
        if self._memory.tight and not self.over:
            self._memory.when_eased(self._renew)

    def release(self, splice: Splice, count: int) -> None:
        self.http.kept -= count
        self._memory.release(splice, count)
        self._renew()

    def _renew(self) -> None:
        self._guarded(self.http.replenish_connection_window)

    def forget(self, splice: Splice) -> None:
        if self._splices.pop(splice.stream.number, None) is not None and not self._splices:
            self._last = self.now()
            if self.http.leaving:
                self.flush_soon()

    # -- what comes --

    def _on_readable(self) -> None:
        self._guarded(self._receive)

    def _on_writable(self) -> None:
        self._guarded(self._resume)

    def _begin(self) -> None:
        self.poller.watch(self._end.sock, self._on_readable, None)
        first = self._end.first()
        if first:
            self.http.feed(memoryview(first))
        self._after_receiving()

    def _receive(self) -> None:
        data = self._end.receive()
        if data is not None:
            self.http.feed(data)
        self._after_receiving()

    def _after_receiving(self) -> None:
        if self._end.ended and not self.over:
            self._peer_ended()
        if self._end.owed and not self.ending:
            self._block()

    def received(self, stream: Stream, data: memoryview | bytes, ended: bool) -> None:
        splice = self._splices.get(stream.number)
        if splice is not None:
            splice.received(data, ended)

    def broken(self, stream: Stream, code: ErrorCode, by_peer: bool) -> None:
        splice = self._splices.get(stream.number)
        if splice is None:
            return
        who = "the peer reset the stream" if by_peer else "the peer broke a rule of HTTP/2 on the stream"
        error = EndedError(Outcome.RESET, f"{who}: {code.name}")
        if by_peer and code is ErrorCode.NO_ERROR:
            splice.left(error)
        else:
            splice.lost(error)

    def window_grew(self, stream: Stream | None) -> None:
        if stream is None:
            for splice in list(self.waiting):
                splice.resume()
        elif (one := self._splices.get(stream.number)) is not None:
            one.credited()

    def requested(self, stream: Stream, request: Request, ended: bool) -> None:
        """A peer opened a stream: the server's to answer."""

    def refused(self, error: ProtocolError) -> None:
        """A peer could not open a stream: the server's to report."""

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        """A CONNECT has its answer: the client's to look at."""

    def tick(self, now: float) -> None:
        """A quarter of the shortest timeout is over."""

    def _peer_ended(self) -> None:
        if self.http.streams:
            raise EndedError(Outcome.RESET, "the tunnel's peer ended it in the middle of streams")
        self._finish()

    # -- what goes --

    def _put_now(self, framed: memoryview) -> None:
        self.flush()
        if not self._end.transmit(framed):
            self._block()

    def _flush_now(self) -> None:
        self._guarded(self._settle)
        self._scheduled = False

    def _settle(self) -> None:
        self.flush()
        if not self.over and self.http.leaving and not self._splices and not self.http.streams:
            self._finish()

    def _finish(self) -> None:
        if self._finishing:
            return
        self._finishing = True
        try:
            finished = self._end.finish()
        except EndedError:
            finished = True  # the peer was quicker, and there is nothing left to lose
        if finished:
            self._part()
        else:
            self._block()

    def _part(self) -> None:
        self.blocked = False
        self._parting = Parting(self._end.sock, self.poller, self.now(), lambda: self._close(None))
        self._parting.begin()

    def _block(self) -> None:
        self.blocked = True
        read = None if self._end.owed > MAX_OWED else self._on_readable
        self.poller.watch(self._end.sock, read, self._on_writable)

    def _resume(self) -> None:
        if not self._end.flush():
            self._count_partial_flush()
            return
        self.blocked = False
        if self._finishing:
            self._part()
            return
        self.poller.watch(self._end.sock, self._on_readable, None)
        self.window_grew(None)

    def _count_partial_flush(self) -> None:
        """A peer that takes little at a time makes no stream idle that only waits for its turn."""
        now = self.now()
        for splice in self.waiting:
            if self.http.room(splice.stream) > 0:
                splice.last = now

    # -- the end --

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step from outside; what it has put out is sent when the wake-up ends."""
        if self.over:
            return
        try:
            step()
            if self.http.outgoing or self.http.leaving:
                self.flush_soon()
        except ProtocolError as error:
            self._farewell()
            detail = f"the tunnel's peer broke a rule of HTTP/2: {error}"
            self._close(EndedError(Outcome.RESET, detail, self._end.parting()))
        except Exception as error:  # noqa: BLE001  # called from the poller: it ends this tunnel, and is raised to its owner
            self._close(error)

    def _farewell(self) -> None:
        """Send what is left to say, if the socket takes it."""
        try:
            self.flush()
            if not self.blocked:
                self._end.finish()
        except (EndedError, HandshakeError):
            return  # it is gone already

    def _close(self, error: Exception | None) -> None:
        if self.over:
            return
        self.over = True
        self.poller.watch(self._end.sock, None, None)
        self._memory.forget(self._renew)
        if error is not None and not isinstance(error, MeshtlsError):
            self._loop.call_exception_handler({"message": "a tunnel failed", "exception": error})
        lost = error or EndedError(Outcome.RESET, "the tunnel ended")
        for splice in list(self._splices.values()):
            splice.left(lost)
        if self._timer is not None and not self._splices:
            self._timer.cancel()
        self._on_end(error)

    def _tick(self) -> None:
        now = self.now()
        idle_since = now - self._idle
        for splice in list(self._splices.values()):
            if splice.last < idle_since:
                splice.break_off(EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {self._idle:g} s"))
            else:
                splice.return_little()
        if self.over:
            pass  # some apps are still taking what came before
        elif self._parting is None:
            self._tick_while_used(now)
        else:
            self._parting.tick(now)
        if not self.over or self._splices:
            self._timer = self._loop.call_later(self._pace(), self._tick)

    def _tick_while_used(self, now: float) -> None:
        self.tick(now)
        if not self._splices and self._last < now - _LAST_PATIENCE * self._idle:
            # Asked to go, it neither went nor let us go: a peer that reads nothing, or answers no PING.
            self.break_off(EndedError(Outcome.IDLE_TIMEOUT, "the tunnel had no streams, and its peer did not let go"))

    def _pace(self) -> float:
        return self._idle / _TICKS
