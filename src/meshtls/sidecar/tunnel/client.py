"""The calling side of a tunnel: opens one stream for each connection of an app."""

from __future__ import annotations

import socket

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import TlsEnd
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.splice import OnDone, Splice
from meshtls.sidecar.tunnel.wire import OnEnd, Wire
from meshtls.wire.http2.frames import ErrorCode
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream
from meshtls.wire.origin import NOWHERE, Origin

__all__ = ["TunnelClient"]

_SUCCESS = range(200, 300)
_DENIED = (401, 403, 404)


class TunnelClient(Wire):
    """``authority`` is what every stream asks for. An answer may take ``answer_timeout`` seconds. The peer is taken to
    allow ``expected_streams`` until it has said how many.

    The app's bytes are sent before the answer: the peer keeps them, within the stream's window, until it has decided.
    """

    def __init__(
        self,
        end: TlsEnd,
        bounds: TunnelBounds,
        memory: ReceiveMemory,
        authority: bytes,
        *,
        expected_streams: int,
        idle_timeout: float,
        answer_timeout: float,
        on_end: OnEnd,
    ) -> None:
        self._authority = authority
        self._answer_timeout = answer_timeout
        super().__init__(end, bounds, memory, client=True, idle_timeout=idle_timeout, on_end=on_end)
        self.http.peer.max_streams = expected_streams

    @property
    def can_open(self) -> bool:
        return not self.ending and self.http.can_open

    @property
    def allowed_streams(self) -> int:
        """How many the peer allows, as far as it is known."""
        return self.http.peer.max_streams

    @property
    def empty(self) -> bool:
        """Nothing is on it."""
        return not self._splices

    def open(
        self, sock: socket.socket, flow: Flow, on_done: OnDone, origin: Origin = NOWHERE, again: bytes = b""
    ) -> Splice:
        """Carry this app's connection, where ``can_open``; ``again`` was received from the app before. The socket stays
        the caller's to close.
        """
        stream = self.http.open(self._authority, origin)
        splice = self._splices[stream.number] = Splice(self, stream, flow, on_done, from_opener=True, again=again)
        splice.join(sock)
        self.flush_soon()
        return splice

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        splice = self._splices.get(stream.number)
        if splice is None:
            return
        splice.answered()
        if status not in _SUCCESS:
            splice.break_off(_refused(status))
        elif ended:
            splice.received(b"", True)

    def broken(self, stream: Stream, code: ErrorCode, by_peer: bool) -> None:
        splice = self._splices.get(stream.number)
        if splice is None or not by_peer or code is not ErrorCode.REFUSED_STREAM or not splice.refusable:
            super().broken(stream, code, by_peer)
            return
        if self.http.leaving:
            detail = "the peer ended the tunnel before it looked at the stream (GOAWAY)"
        else:
            # As many as it has now are what it takes, until it says otherwise.
            self.http.peer.max_streams = min(self.http.peer.max_streams, len(self.http.streams))
            detail = "the peer refused the stream (REFUSED_STREAM)"
        splice.refused(detail)

    def tick(self, now: float) -> None:
        late = now - self._answer_timeout
        if any(splice.asked_at is not None and splice.asked_at < late for splice in self._splices.values()):
            self._give_up_on(late)
        elif not self._splices and self._last < now - self._idle:
            self.drain()

    def _give_up_on(self, late: float) -> None:
        """A peer that does not answer gets no more streams."""
        self.drain()
        error = EndedError(Outcome.CONNECT_FAILED, f"the peer did not answer CONNECT within {self._answer_timeout:g} s")
        for splice in list(self._splices.values()):
            if splice.asked_at is not None and splice.asked_at < late:
                splice.break_off(error)

    def _pace(self) -> float:
        return min(super()._pace(), self._answer_timeout / 4)

    def __repr__(self) -> str:
        state = "over" if self.over else "leaving" if self.http.leaving else "open"
        return f"<TunnelClient {self._authority.decode('ascii', 'replace')} [{state}, {len(self._splices)} streams]>"


def _refused(status: int) -> EndedError:
    if status in _DENIED:
        return EndedError(Outcome.POLICY_DENIED, f"the peer does not let us in: it answered CONNECT with {status}")
    return EndedError(Outcome.CONNECT_FAILED, f"the peer can't reach its app: it answered CONNECT with {status}")
