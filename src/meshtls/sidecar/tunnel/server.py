"""The serving side of a tunnel: takes the streams that a peer opens."""

from __future__ import annotations

from typing import Protocol

from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import OnEnd, Session
from meshtls.sidecar.tunnel.stream_end import OnDone, StreamEnd
from meshtls.wire.http2.frames import ProtocolError
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream

__all__ = ["StreamOwner", "TunnelServer"]

#: The server waits longer than the client before it drains a tunnel without streams: the client may be opening one.
_IDLE_FACTOR = 2


class StreamOwner(Protocol):
    """What decides on the streams of a tunnel."""

    def on_request(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        """Answer this CONNECT by ``TunnelServer.new_stream_end`` and then ``accept`` or ``refuse``. ``ended``: the peer
        sends no bytes.
        """

    def on_refused(self, error: ProtocolError) -> None:
        """HTTP/2 has refused a stream already."""


class TunnelServer(Session):
    """Takes the streams of one tunnel from a peer, for ``owner`` to answer."""

    def __init__(
        self,
        owner: StreamOwner,
        end: TlsEnd,
        bounds: TunnelBounds,
        memory: ReceiveMemory,
        reactor: Reactor,
        *,
        idle_timeout: float,
        on_end: OnEnd,
    ) -> None:
        self._owner = owner
        super().__init__(end, bounds, memory, reactor, client=False, idle_timeout=idle_timeout, on_end=on_end)

    def refused(self, error: ProtocolError) -> None:
        self._owner.on_refused(error)

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        self._owner.on_request(stream, request, ended)

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
