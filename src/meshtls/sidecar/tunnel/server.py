"""The serving side of a tunnel: takes the streams that a peer opens."""

from __future__ import annotations

from collections.abc import Callable

from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import OnEnd, Session
from meshtls.sidecar.tunnel.stream_end import OnDone, StreamEnd
from meshtls.wire.http2.frames import ProtocolError
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream

__all__ = ["TunnelServer"]

OnRequest = Callable[[Stream, ConnectRequest, bool], None]
OnRefused = Callable[[ProtocolError], None]
#: The server waits longer than the client before it drains a tunnel without streams: the client may be opening one.
_IDLE_FACTOR = 2


class TunnelServer(Session):
    """``on_request`` answers each CONNECT by ``new_stream_end`` and then ``accept`` or ``refuse``. ``on_refused`` is
    called for each that HTTP/2 has refused already.
    """

    def __init__(
        self,
        end: TlsEnd,
        bounds: TunnelBounds,
        memory: ReceiveMemory,
        reactor: Reactor,
        *,
        idle_timeout: float,
        on_request: OnRequest,
        on_refused: OnRefused,
        on_end: OnEnd,
    ) -> None:
        self._on_request = on_request
        self._on_refused = on_refused
        super().__init__(end, bounds, memory, reactor, client=False, idle_timeout=idle_timeout, on_end=on_end)

    def refused(self, error: ProtocolError) -> None:
        self._on_refused(error)

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        self._on_request(stream, request, ended)

    def new_stream_end(self, stream: Stream, on_done: OnDone) -> StreamEnd:
        """Take what arrives on the stream; it goes to the app once ``StreamEnd.join`` names it."""
        end = self._streams[stream.number] = StreamEnd(self, stream, on_done, remembers=False)
        return end

    def accept(self, end: StreamEnd) -> None:
        end.unanswered_since = None
        self.http.accept(end.stream)
        self.flush_soon()

    def refuse(self, end: StreamEnd, status: int, error: Exception) -> None:
        """Answer with this status; ``error`` is how the stream ends."""
        self.http.refuse(end.stream, status)
        self.flush_soon()
        end.lost(error)

    def tick(self, now: float) -> None:
        if not self._streams and self._empty_since < now - _IDLE_FACTOR * self._idle:
            self.drain()
