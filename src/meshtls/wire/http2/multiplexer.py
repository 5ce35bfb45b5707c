"""One HTTP/2 connection, whatever its streams carry: bytes in, calls and bytes out (RFC 9113). Pure.

What a header block means, and so how a stream begins, is left to the subclasses: ``connection`` (tunnels),
``downstream`` and ``upstream`` (HTTP requests).

Strict: a violation ends the stream or the connection with the error code that the standard names; if the standard
leaves the choice, the connection ends. Only the windows are generous. The connection's window is returned as soon as
bytes arrive: if it were held back, a few streams whose apps don't read could use it up and stall all others. When
memory is short, it is returned only for what the apps have taken.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from meshtls.wire.http2.fields import NO_TABLE
from meshtls.wire.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HIGHEST_STREAM,
    MIN_MAX_FRAME,
    PADDED,
    PREFACE,
    PRIORITY_FIELDS,
    ErrorCode,
    FrameReader,
    Kind,
    ProtocolError,
    check,
    check_flood,
    check_size,
    frame,
    frame_header,
    goaway_frame,
    unpadded,
)
from meshtls.wire.http2.settings import DEFAULT_WINDOW, MAX_FRAME, MAX_WINDOW, Bounds, PeerSettings
from meshtls.wire.http2.sink import MemoryPressure, StreamEvents
from meshtls.wire.http2.states import NEXT, Expects, Http2State, Shutdown
from meshtls.wire.http2.streams import Ended, RecentlyReset, Stream

__all__ = ["DRAIN_PING", "MAX_RESETS", "Multiplexer", "Payload"]


#: A server sends this PING after its first GOAWAY: the ACK shows that the peer has seen the GOAWAY.
DRAIN_PING = b"draining"
#: Bytes of responses (to PING, SETTINGS, bad streams) that may be unsent because the peer does not read.
_MAX_UNSENT = 1 << 20
#: Frames in one receive that carry nothing for an app.
_MAX_EMPTY_FRAMES = 1000
#: Resets by the peer in one receive: each has cost us work, or a connection to the app.
MAX_RESETS = 100
_MAX_CONTINUATIONS = 16
_PRIORITY_SIZE, _SMALLEST_GOAWAY, _PING_SIZE = 5, 8, 8
#: Flags of HEADERS that has more in it than a block.
_LONGER = PADDED | PRIORITY_FIELDS
_FRAME, _PREFACE, _LEAVING = Expects.FRAME, Expects.PREFACE, Http2State.LEAVING
_DATA, _HEADERS, _BY_US, _BY_PEER = Kind.DATA, Kind.HEADERS, Ended.BY_US, Ended.BY_PEER
Payload = memoryview | bytes
S = TypeVar("S", bound=Stream)


class Multiplexer(Generic[S]):
    """One HTTP/2 connection: its streams, windows and settings. ``feed`` what arrived; send what is in ``outgoing``
    after every call, also after one that raised.

    - ``state``, ``expects``: where the connection is in its tables (see ``states``).
    - ``leaving``: no more streams are opened or accepted; those that are open go on. Kept beside ``state``, because it
      is asked for at each wake-up.
    - ``streams``: those that are not closed, by their number; ``highest`` is that of the last one opened.
    - ``may_send``: bytes that the peer's window of the connection still admits; ``may_receive`` those of ours.
    - ``kept``: bytes of all streams that arrived and that no app has taken yet. The owner counts them.
    - ``peer``: what the peer's SETTINGS say.
    """

    #: Of a header block all frames, in bytes.
    max_block = 1 << 15

    def __init__(
        self, sink: StreamEvents[S], bounds: Bounds, memory: MemoryPressure, settings: bytes, *, client: bool
    ) -> None:
        self.sink = sink
        self.bounds = bounds
        self.client = client
        self.peer = PeerSettings()
        self.state = Http2State.OPEN
        self.leaving = False
        self.expects = Expects.SETTINGS if client else Expects.PREFACE
        self.streams: dict[int, S] = {}
        #: The next stream is two above.
        self.highest = -1 if client else 0
        self.may_send = DEFAULT_WINDOW
        self.may_receive = bounds.connection_window
        self.kept = 0
        self._memory = memory
        self._low_water = bounds.connection_window >> 1
        self._reader = FrameReader(MAX_FRAME)
        #: The part of the client's preface that has not arrived yet.
        self._preface = b"" if client else PREFACE
        #: Of an unfinished header block the stream, its END_STREAM, and the fragments so far.
        self._block: tuple[int, int, list[bytes]] | None = None
        #: The beginning of our first header block.
        self._first_block = NO_TABLE
        self._reset_by_us = RecentlyReset()
        #: Streams that the peer reset, and frames that carried nothing, since ``feed`` was called.
        self.resets = self._empty_frames = 0
        self.outgoing = bytearray(PREFACE if client else b"")
        self.outgoing += frame(Kind.SETTINGS, 0, 0, settings)
        if bounds.connection_window > DEFAULT_WINDOW:
            self._send_window_update(0, bounds.connection_window - DEFAULT_WINDOW)

    @property
    def can_open(self) -> bool:
        """Whether a client may open one more stream now."""
        return self.state < _LEAVING and len(self.streams) < self.peer.max_streams and self.highest < HIGHEST_STREAM

    # -- streams, as the owner uses them --

    def room(self, stream: S) -> int:
        """The most bytes that the next DATA frame of this stream may carry; none may be sent if it is 0 or less."""
        return min(stream.may_send, self.may_send, self.peer.max_frame) if stream.sends else 0

    def data_header(self, stream: S, count: int) -> bytes:
        """The header of a DATA frame of ``count`` bytes, at most ``room``.

        The caller sends what is in ``outgoing``, then this header, then the bytes.
        """
        stream.may_send -= count
        self.may_send -= count
        return frame_header(_DATA, 0, stream.number, count)

    def finish(self, stream: S) -> None:
        """End our side of the stream."""
        self.outgoing += frame_header(_DATA, END_STREAM, stream.number, 0)
        if stream.end(_BY_US):
            self.streams.pop(stream.number, None)

    def reset(self, stream: S, code: ErrorCode) -> None:
        """End the stream at once, in both directions. What the peer still sends on it is dropped."""
        if self.streams.pop(stream.number, None) is not None:
            self._send_reset(stream.number, code)

    # -- our receive windows --

    def taken(self, stream: S, count: int) -> None:
        """The app has taken ``count`` bytes of what was received: the peer may send as many more."""
        stream.unreturned += count
        if stream.unreturned >= self.bounds.window >> 1 and stream.receives:
            self.replenish_window(stream)

    def replenish_window(self, stream: S) -> None:
        """Return the part of the stream's window that the app has taken, however small."""
        self._send_window_update(stream.number, stream.unreturned)
        stream.may_receive += stream.unreturned
        stream.unreturned = 0

    def replenish_connection_window(self) -> None:
        """Return the connection's window, if little of it is left and memory permits."""
        left, whole = self.may_receive, self.bounds.connection_window
        if left >= self._low_water:
            return
        more = (whole - self.kept if self._memory.tight else whole) - left
        if more >= whole >> 3:
            self._send_window_update(0, more)
            self.may_receive += more

    # -- the end of the connection --

    def drain(self) -> None:
        """Ask the peer to open no more streams. A server still accepts those that the peer opened before it received
        the GOAWAY (RFC 9113, section 6.8).
        """
        if self.state is not Http2State.OPEN:
            return
        if self.client:
            self._leave()
        else:
            self._step(Shutdown.ANNOUNCED)
            self.outgoing += goaway_frame(ErrorCode.NO_ERROR, HIGHEST_STREAM)
            self.outgoing += frame(Kind.PING, 0, 0, DRAIN_PING)

    def close(self, code: ErrorCode, detail: str = "") -> None:
        """End the connection: queue GOAWAY with this code, and ``detail`` as its debug data."""
        if self.state is not Http2State.CLOSED:
            self._step(Shutdown.FORCED)
            self.outgoing += goaway_frame(code, self._last_accepted, detail)

    def _step(self, step: Shutdown) -> None:
        self.state = NEXT[self.state][step]
        self.leaving = self.state is _LEAVING

    def _leave(self) -> None:
        self._step(Shutdown.BEGUN)
        self.outgoing += goaway_frame(ErrorCode.NO_ERROR, self._last_accepted)

    @property
    def _last_accepted(self) -> int:
        """The highest stream of the peer that was accepted; 0 for a client, which accepts none."""
        return 0 if self.client else self.highest

    # -- receiving --

    def feed(self, data: Payload) -> None:
        """Decode ``data``, calling ``sink``. Raises ProtocolError if the connection ends, with GOAWAY queued; do not
        feed it again then.
        """
        self.resets = self._empty_frames = 0
        try:
            if self.expects is _PREFACE:
                data = self._take_preface(data)
            for kind, flags, number, payload, length in self._reader.feed(data):
                try:
                    if self.expects is not _FRAME:
                        self._check_expected(kind, flags, number)
                    if not kind:
                        self._on_data(flags, number, payload, length)
                    elif kind < _KINDS:
                        _HANDLERS[kind](self, flags, number, payload, length)
                except ProtocolError as error:
                    if not error.stream_id:
                        raise
                    self._break_stream(error.stream_id, error.code)
            check_flood(len(self.outgoing) <= _MAX_UNSENT, "the peer requests responses and does not read them")
        except ProtocolError as error:
            self.close(error.code, str(error))
            raise

    def _take_preface(self, data: Payload) -> Payload:
        start = bytes(data[: len(self._preface)])
        check(self._preface.startswith(start), "wanted the client's preface of HTTP/2, got something else")
        self._preface = self._preface[len(start) :]
        if not self._preface:
            self.expects = Expects.SETTINGS
        return data[len(start) :]

    def _check_expected(self, kind: int, flags: int, number: int) -> None:
        if self._block is None:
            check(kind == Kind.SETTINGS and not flags & ACK, "wanted SETTINGS as the first frame, got another")
            self.expects = _FRAME
        else:
            whole = kind == Kind.CONTINUATION and number == self._block[0]
            check(whole, "wanted the rest of a header block, got another frame")

    def _break_stream(self, number: int, code: ErrorCode) -> None:
        """The peer broke a rule on this stream."""
        stream = self.streams.pop(number, None)
        self._send_reset(number, code)
        if stream is not None:
            self.sink.broken(stream, code, False)

    def _is_idle(self, number: int) -> bool:
        """Whether this stream was never opened. A server's stream always is: neither side may push."""
        return number > self.highest or not number & 1

    def _check_closed_stream(self, number: int) -> None:
        """Accept a frame on a closed stream only if it crossed our reset. Raises ProtocolError."""
        check(not self._is_idle(number), "wanted an open stream, got a frame on an idle one")
        if number not in self._reset_by_us:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "wanted an open stream, got a frame on a closed one")

    def _end_by_peer(self, stream: S) -> None:
        if stream.end(_BY_PEER):
            del self.streams[stream.number]

    def _count_empty_frame(self) -> None:
        self._empty_frames += 1
        check_flood(self._empty_frames <= _MAX_EMPTY_FRAMES, "the peer sends too many frames that carry nothing")

    # -- header blocks --

    def _on_headers(self, flags: int, number: int, payload: Payload, _length: int) -> None:
        if not number & 1:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, "wanted HEADERS on a stream of the client's, got another number"
            )
        if flags & _LONGER:
            payload = unpadded(Kind.HEADERS, flags, payload)
        fragment = bytes(payload)
        if flags & END_HEADERS:
            self._take_block(number, fragment, flags & END_STREAM)
        else:
            self._block, self.expects = (number, flags & END_STREAM, [fragment]), Expects.CONTINUATION

    def _on_continuation(self, flags: int, number: int, payload: Payload, _length: int) -> None:
        if self._block is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted HEADERS before CONTINUATION, got none")
        _, ended, fragments = self._block
        fragments.append(bytes(payload))
        short = len(fragments) <= _MAX_CONTINUATIONS and sum(map(len, fragments)) <= self.max_block
        check_flood(short, "the peer's header block is too long")
        if flags & END_HEADERS:
            self._block, self.expects = None, _FRAME
            self._take_block(number, b"".join(fragments), ended)

    def _take_block(self, number: int, block: bytes, ended: int) -> None:
        """A whole header block arrived. Every one has to pass through HPACK's decoder, which has a table."""
        raise NotImplementedError

    # -- DATA and flow control --

    def _on_data(self, flags: int, number: int, payload: Payload, length: int) -> None:
        left = self.may_receive = self.may_receive - length
        if left < self._low_water:
            if left < 0:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
            self.replenish_connection_window()
        stream = self.streams.get(number)
        if stream is None:
            self._check_closed_stream(number)
            return
        if not stream.receives:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "wanted nothing after END_STREAM, got DATA", number)
        if self.client and not stream.answered:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted a response before DATA, got DATA", number)
        stream.may_receive -= length
        if stream.may_receive < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is exceeded", number)
        if flags > END_STREAM:
            payload = unpadded(Kind.DATA, flags, payload)
            self.taken(stream, length - len(payload))
        if flags & END_STREAM:
            self._end_by_peer(stream)
            self.sink.received(stream, payload, True)
        elif payload:
            self.sink.received(stream, payload, False)
        else:
            self._count_empty_frame()

    def _on_window_update(self, _flags: int, number: int, payload: Payload, length: int) -> None:
        check_size(Kind.WINDOW_UPDATE, length, 4)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if number:
            check(not self._is_idle(number), "wanted an open stream, got WINDOW_UPDATE on an idle one")
        if not more:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted a WINDOW_UPDATE of more than 0", number)
        stream = self.streams.get(number)
        if not number:
            self.may_send = _widened(self.may_send, more, 0)
            self.sink.window_grew(None)
        elif stream is not None:
            stream.may_send = _widened(stream.may_send, more, number)
            self.sink.window_grew(stream)

    # -- the other frames --

    def _on_priority(self, _flags: int, number: int, _payload: Payload, length: int) -> None:
        check(number != 0, "wanted PRIORITY on a stream, got stream 0")
        self._count_empty_frame()
        if length != _PRIORITY_SIZE:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "wanted PRIORITY of 5 bytes", number)

    def _on_rst_stream(self, _flags: int, number: int, payload: Payload, length: int) -> None:
        check(not self._is_idle(number), "wanted an open stream, got RST_STREAM on an idle one")
        check_size(Kind.RST_STREAM, length, 4)
        stream = self.streams.pop(number, None)
        if stream is not None:
            self.resets += 1
            self.sink.broken(stream, _code(payload), True)

    def _on_settings(self, flags: int, number: int, payload: Payload, length: int) -> None:
        check(number == 0, "wanted SETTINGS on stream 0, got another")
        self._count_empty_frame()
        if flags & ACK:
            check_size(Kind.SETTINGS, length, 0)
            return
        before = self.peer.initial_window
        self.peer.update(payload, from_server=self.client)
        for stream in self.streams.values():
            stream.may_send = _widened(stream.may_send, self.peer.initial_window - before, 0)
        self.outgoing += frame(Kind.SETTINGS, ACK, 0, b"")
        self.sink.window_grew(None)

    def _on_push_promise(self, _flags: int, _number: int, _payload: Payload, _length: int) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted no PUSH_PROMISE, got one")

    def _on_ping(self, flags: int, number: int, payload: Payload, length: int) -> None:
        check(number == 0, "wanted PING on stream 0, got another")
        check_size(Kind.PING, length, _PING_SIZE)
        self._count_empty_frame()
        if not flags & ACK:
            self.outgoing += frame(Kind.PING, ACK, 0, bytes(payload))
        elif payload == DRAIN_PING and not self.client:
            self._leave()

    def _on_goaway(self, _flags: int, number: int, payload: Payload, length: int) -> None:
        check(number == 0, "wanted GOAWAY on stream 0, got another")
        if length < _SMALLEST_GOAWAY:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "wanted a GOAWAY of at least 8 bytes, got fewer")
        self._step(Shutdown.BEGUN)
        last = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        for above in [above for above in self.streams if self.client and above > last]:
            self.sink.broken(self.streams.pop(above), ErrorCode.REFUSED_STREAM, True)

    # -- frames that we send --

    def _send_block(self, number: int, block: bytes, flags: int) -> None:
        """``flags`` are END_HEADERS and perhaps END_STREAM."""
        if self._first_block:
            block, self._first_block = self._first_block + block, b""
        if len(block) <= MIN_MAX_FRAME:
            self.outgoing += frame(_HEADERS, flags, number, block)
            return
        kind, flags = _HEADERS, flags & ~END_HEADERS
        while len(block) > MIN_MAX_FRAME:
            self.outgoing += frame(kind, flags, number, block[:MIN_MAX_FRAME])
            block, kind, flags = block[MIN_MAX_FRAME:], Kind.CONTINUATION, 0
        self.outgoing += frame(kind, END_HEADERS, number, block)

    def _send_window_update(self, number: int, count: int) -> None:
        self.outgoing += frame(Kind.WINDOW_UPDATE, 0, number, count.to_bytes(4, "big"))

    def _send_reset(self, number: int, code: ErrorCode) -> None:
        self._reset_by_us.add(number)
        self.outgoing += frame(Kind.RST_STREAM, 0, number, code.to_bytes(4, "big"))

    def __repr__(self) -> str:
        role, streams = "client" if self.client else "server", len(self.streams)
        return (
            f"<{type(self).__name__} {role} {self.state.name}, expects {self.expects.name}"
            f" [{streams} streams, send {self.may_send}, receive {self.may_receive}]>"
        )


#: By frame type. DATA is handled before this is looked at.
_HANDLERS = (
    Multiplexer._on_data,
    Multiplexer._on_headers,
    Multiplexer._on_priority,
    Multiplexer._on_rst_stream,
    Multiplexer._on_settings,
    Multiplexer._on_push_promise,
    Multiplexer._on_ping,
    Multiplexer._on_goaway,
    Multiplexer._on_window_update,
    Multiplexer._on_continuation,
)
_KINDS = len(_HANDLERS)


def _widened(window: int, more: int, number: int) -> int:
    if window + more > MAX_WINDOW:
        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"wanted a window of at most {MAX_WINDOW} bytes", number)
    return window + more


def _code(payload: Payload) -> ErrorCode:
    """The error code; an unknown one counts as INTERNAL_ERROR (RFC 9113, section 7)."""
    value = int.from_bytes(payload, "big")
    return ErrorCode(value) if value <= max(ErrorCode) else ErrorCode.INTERNAL_ERROR
