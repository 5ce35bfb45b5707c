"""The calling side of a tunnel: opens one stream for each connection of an app."""

from __future__ import annotations

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.session import OnEnd, Session
from meshtls.sidecar.tunnel.states import SessionState
from meshtls.sidecar.tunnel.stream_end import OnDone, StreamEnd
from meshtls.wire.http2.frames import ErrorCode
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream
from meshtls.wire.origin import NOWHERE, Origin

__all__ = ["TunnelClient"]

_SUCCESS = range(200, 300)
_DENIED = (401, 403, 404)


class TunnelClient(Session):
    """Opens streams on one tunnel to a peer. ``authority`` is that of every CONNECT. An answer may take
    ``answer_timeout`` seconds. The peer is assumed to allow ``expected_streams`` until its SETTINGS arrive.

    The app's bytes are sent before the answer: the peer keeps them, within the stream's window, until it has decided.
    """

    def __init__(
        self,
        end: TlsEnd,
        bounds: TunnelBounds,
        memory: ReceiveMemory,
        reactor: Reactor,
        authority: bytes,
        *,
        expected_streams: int,
        idle_timeout: float,
        answer_timeout: float,
        on_end: OnEnd,
    ) -> None:
        self._authority = authority
        self._answer_timeout = answer_timeout
        super().__init__(end, bounds, memory, reactor, client=True, idle_timeout=idle_timeout, on_end=on_end)
        self.http.peer.max_streams = expected_streams

    @property
    def can_open(self) -> bool:
        return self.state is SessionState.OPEN and self.http.can_open

    @property
    def allowed_streams(self) -> int:
        """How many the peer allows, as far as it is known."""
        return self.http.peer.max_streams

    def open(self, on_done: OnDone, origin: Origin = NOWHERE) -> StreamEnd:
        """Send CONNECT, where ``can_open``. ``StreamEnd.join`` then names the app, whose socket is the caller's."""
        stream = self.http.open(self._authority, origin)
        end = self._streams[stream.number] = StreamEnd(self, stream, on_done, remembers=True)
        self.flush_soon()
        return end

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        end = self._streams.get(stream.number)
        if end is None:
            return
        end.answered()
        if status not in _SUCCESS:
            end.break_off(_refused(status))
        elif ended:
            end.deliver(b"", True)

    def broken(self, stream: Stream, code: ErrorCode, by_peer: bool) -> None:
        end = self._streams.get(stream.number)
        if end is None or not by_peer or code is not ErrorCode.REFUSED_STREAM or not end.refusable:
            super().broken(stream, code, by_peer)
            return
        if self.http.leaving:
            detail = "the peer ended the tunnel before it looked at the stream (GOAWAY)"
        else:
            # Assume that it allows only the present number of streams, until its SETTINGS say otherwise.
            self.http.peer.max_streams = min(self.http.peer.max_streams, len(self.http.streams))
            detail = "the peer refused the stream (REFUSED_STREAM)"
        end.refused(detail)

    def tick(self, now: float) -> None:
        since = now - self._answer_timeout
        late = [
            end for end in self._streams.values() if end.unanswered_since is not None and end.unanswered_since < since
        ]
        if late:
            self.drain()  # open no more streams to a peer that does not answer
            why = f"the peer did not answer CONNECT within {self._answer_timeout:g} s"
            error = EndedError(Outcome.CONNECT_FAILED, why)
            for end in late:
                end.break_off(error)
        elif not self._streams and self._empty_since < now - self._idle:
            self.drain()

    def _pace(self) -> float:
        return min(super()._pace(), self._answer_timeout / 4)


def _refused(status: int) -> EndedError:
    if status in _DENIED:
        return EndedError(Outcome.POLICY_DENIED, f"the peer does not let us in: it answered CONNECT with {status}")
    return EndedError(Outcome.CONNECT_FAILED, f"the peer can't reach its app: it answered CONNECT with {status}")
