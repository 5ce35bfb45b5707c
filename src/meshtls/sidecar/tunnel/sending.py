"""The sending half of an HTTP/2 connection, and the state that both halves share. Pure."""

from __future__ import annotations

from meshtls.sidecar.tunnel.frames import (
    END_HEADERS,
    END_STREAM,
    ErrorCode,
    Kind,
    ProtocolError,
    frame,
    frame_header,
)
from meshtls.sidecar.tunnel.headers import NO_TABLE, connect_block, status_block
from meshtls.sidecar.tunnel.origin import NOWHERE, Origin
from meshtls.sidecar.tunnel.rules import check
from meshtls.sidecar.tunnel.settings import DEFAULT_WINDOW, PeerSettings, TunnelBounds, own_settings
from meshtls.sidecar.tunnel.streams import Ended, ForgottenStreams, Stream

__all__ = ["DRAIN_PING", "HIGHEST_STREAM", "PREFACE", "Sender"]

#: What a client says before its first frame (RFC 9113, section 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HIGHEST_STREAM = (1 << 31) - 1
#: Comes back when the peer has seen the GOAWAY before it.
DRAIN_PING = b"draining"


class Sender:
    """Every call adds to ``outgoing``, which the driver empties onto the wire. ``streams`` are those not closed yet."""

    def __init__(self, bounds: TunnelBounds, *, client: bool) -> None:
        self.bounds = bounds
        self.client = client
        self.outgoing = bytearray()
        self.streams: dict[int, Stream] = {}
        self.peer = PeerSettings()
        #: The highest stream that the client opened so far; the next is two above.
        self.highest = -1 if client else 0
        #: The peer takes or opens no more streams, since one of us said GOAWAY.
        self.leaving = False
        self._draining = False
        #: Bytes that the peer's window of the connection still takes.
        self.may_send = DEFAULT_WINDOW
        self._first_block = NO_TABLE
        self._reset_by_us = ForgottenStreams()
        self._begin()

    @property
    def can_open(self) -> bool:
        """Whether a client may open one more stream now."""
        return not self.leaving and len(self.streams) < self.peer.max_streams and self.highest < HIGHEST_STREAM

    def open(self, authority: bytes, origin: Origin = NOWHERE) -> Stream:
        """CONNECT to ``authority``, where ``can_open``."""
        number = self.highest = self.highest + 2
        stream = self.streams[number] = Stream(number, self.peer.initial_window, self.bounds.window)
        self._send_block(number, connect_block(authority, origin), END_HEADERS)
        return stream

    def accept(self, stream: Stream) -> None:
        """Answer 200: from here on the stream is the app's connection."""
        stream.answered = True
        self._send_block(stream.number, status_block(200), END_HEADERS)

    def refuse(self, stream: Stream, status: int) -> None:
        """Answer with another status, and take nothing more of this stream (RFC 9113, section 8.1)."""
        self._send_block(stream.number, status_block(status), END_HEADERS | END_STREAM)
        if stream.end(Ended.BY_US):
            self.streams.pop(stream.number, None)
        else:
            self.reset(stream, ErrorCode.NO_ERROR)

    def room(self, stream: Stream) -> int:
        """How many bytes the next DATA frame of this stream may carry; none where it is 0 or less."""
        return min(stream.may_send, self.may_send, self.peer.max_frame) if stream.sends else 0

    def data_header(self, stream: Stream, count: int) -> bytes:
        """The header of a DATA frame of ``count`` bytes, at most ``room``: the caller puts it, and then the bytes, on
        the wire after what is in ``outgoing``.
        """
        stream.may_send -= count
        self.may_send -= count
        return frame_header(Kind.DATA, 0, stream.number, count)

    def finish(self, stream: Stream) -> None:
        """Say that we send no more on this stream."""
        self.outgoing += frame_header(Kind.DATA, END_STREAM, stream.number, 0)
        if stream.end(Ended.BY_US):
            self.streams.pop(stream.number, None)

    def taken(self, stream: Stream, count: int) -> None:
        """The app has taken ``count`` bytes of what was received: the peer may send as many more."""
        stream.unreturned += count
        if stream.unreturned >= stream.window >> 1 and stream.receives:
            self.return_stream_window(stream)

    def return_stream_window(self, stream: Stream) -> None:
        """Let the peer send as much again as the app has taken, also where that is little."""
        self.return_window(stream.number, stream.unreturned)
        stream.may_receive += stream.unreturned
        stream.unreturned = 0

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End the stream at once, in both directions. What the peer still sends on it is dropped."""
        if self.streams.pop(stream.number, None) is not None:
            self.reset_number(stream.number, code)

    def goaway(self, code: ErrorCode, detail: str = "", last: int | None = None) -> None:
        """Say that no stream after ``last``, the highest so far unless given, will be looked at."""
        highest = self.highest if not self.client else 0
        payload = (highest if last is None else last).to_bytes(4, "big") + code.to_bytes(4, "big") + detail.encode()
        self.outgoing += frame(Kind.GOAWAY, 0, 0, payload)

    def drain(self) -> None:
        """Ask the peer to open no more streams. Those it opens before it has heard of it are taken, a client's anyway
        (RFC 9113, section 6.8).
        """
        if self._draining or self.leaving:
            return
        self._draining = True
        if self.client:
            self.leaving = True
            self.goaway(ErrorCode.NO_ERROR)
        else:
            self.goaway(ErrorCode.NO_ERROR, last=HIGHEST_STREAM)
            self.outgoing += frame(Kind.PING, 0, 0, DRAIN_PING)

    # -- what the receiving half needs --

    def idle(self, number: int) -> bool:
        """Nobody opened this stream yet, or ever will: we push nothing and take no push."""
        return number > self.highest or not number & 1

    def check_astray(self, number: int) -> None:
        """A frame of a stream that is not there is fine only where our reset crossed it. Raises ProtocolError."""
        check(not self.idle(number), "wanted an open stream, got a frame on an idle one")
        if number not in self._reset_by_us:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "wanted an open stream, got a frame on a closed one")

    def peer_ended(self, stream: Stream) -> None:
        if stream.end(Ended.BY_PEER):
            del self.streams[stream.number]

    def return_window(self, number: int, count: int) -> None:
        self.outgoing += frame(Kind.WINDOW_UPDATE, 0, number, count.to_bytes(4, "big"))

    def reset_number(self, number: int, code: ErrorCode) -> None:
        self._reset_by_us.add(number)
        self.outgoing += frame(Kind.RST_STREAM, 0, number, code.to_bytes(4, "big"))

    def _begin(self) -> None:
        if self.client:
            self.outgoing += PREFACE
        self.outgoing += frame(Kind.SETTINGS, 0, 0, own_settings(self.bounds, client=self.client))
        if self.bounds.connection_window > DEFAULT_WINDOW:
            self.return_window(0, self.bounds.connection_window - DEFAULT_WINDOW)

    def _send_block(self, number: int, block: bytes, flags: int) -> None:
        self.outgoing += frame(Kind.HEADERS, flags, number, self._first_block + block)
        self._first_block = b""
