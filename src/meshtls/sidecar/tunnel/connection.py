"""One HTTP/2 connection whose streams are all CONNECT: bytes in, calls and bytes out (RFC 9113). Pure.

Strict: what breaks a rule ends the stream or the connection with the code that the standard names. Where it leaves the
choice, the connection ends. Only the windows are generous: a connection's is returned as soon as bytes arrive, for were
it held back, a few streams whose apps don't read would use it up and stall all others. Where memory gets tight, it is
returned only for what the apps have taken.
"""

from __future__ import annotations

from meshtls.sidecar.tunnel.blocks import BlockTaker
from meshtls.sidecar.tunnel.frames import ACK, END_STREAM, ErrorCode, FrameReader, Kind, ProtocolError, frame, unpadded
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.rules import check, check_calm, check_size
from meshtls.sidecar.tunnel.sending import DRAIN_PING, PREFACE
from meshtls.sidecar.tunnel.settings import MAX_FRAME, MAX_WINDOW, TunnelBounds
from meshtls.sidecar.tunnel.sink import Sink

__all__ = ["Http2Connection"]

#: Answers (to PING, SETTINGS, bad streams) that may wait for a peer that does not read.
_MAX_WAITING = 1 << 20
#: Frames that carry nothing for an app, of one receive: who sends more is only out to make us work.
_MAX_IDLE_TALK = 1000
_PRIORITY_SIZE, _SMALLEST_GOAWAY, _PING_SIZE = 5, 8, 8
_Payload = memoryview | bytes


class Http2Connection(BlockTaker):
    """``feed`` what arrived; send what is in ``outgoing`` after every call, also after one that raised.

    ``kept``: the bytes of all streams that came and that no app has taken yet, for the driver to count. ``memory`` is
    what they are counted in beside those of other tunnels.
    """

    def __init__(self, sink: Sink, bounds: TunnelBounds, memory: ReceiveMemory, *, client: bool) -> None:
        super().__init__(sink, bounds, client=client)
        self.kept = 0
        self._memory = memory
        self._reader = FrameReader(MAX_FRAME)
        self._may_receive = bounds.connection_window
        self._low_water = bounds.connection_window >> 1
        self._idle_talk = 0
        self._preface = b"" if client else PREFACE
        self._seen_settings = False

    def feed(self, data: memoryview) -> None:
        """Tell ``sink`` what ``data`` means. Raises ProtocolError where the connection is over, with GOAWAY queued."""
        self.just_reset = self._idle_talk = 0
        try:
            if self._preface:
                data = self._check_preface(data)
            for kind, flags, number, payload, length in self._reader.feed(data):
                try:
                    if not self.plain:
                        self._check_turn(kind, flags, number)
                    if not kind:
                        self._on_data(flags, number, payload, length)
                    elif kind < len(_HANDLERS):
                        _HANDLERS[kind](self, flags, number, payload, length)
                except ProtocolError as error:
                    if not error.stream_id:
                        raise
                    self._end_stream(error.stream_id, error.code)
            check_calm(len(self.outgoing) <= _MAX_WAITING, "the peer asks for answers and does not read them")
        except ProtocolError as error:
            self.goaway(error.code, str(error))
            raise

    def _check_turn(self, kind: int, flags: int, number: int) -> None:
        """SETTINGS come first, and nothing within a header block."""
        if not self._seen_settings:
            check(kind == Kind.SETTINGS and not flags & ACK, "wanted SETTINGS as the first frame, got another")
            self._seen_settings = self.plain = True
        self.check_goes_on(kind, number)

    def _end_stream(self, number: int, code: ErrorCode) -> None:
        stream = self.streams.pop(number, None)
        self.reset_number(number, code)
        if stream is not None:
            self.sink.broken(stream, code, False)

    def _check_preface(self, data: memoryview) -> memoryview:
        start = bytes(data[: len(self._preface)])
        check(self._preface.startswith(start), "wanted the client's preface of HTTP/2, got something else")
        self._preface = self._preface[len(start) :]
        return data[len(start) :]

    # -- DATA and flow control --

    def _on_data(self, flags: int, number: int, payload: _Payload, length: int) -> None:
        left = self._may_receive = self._may_receive - length
        if left < self._low_water:
            if left < 0:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
            self.renew_window()
        stream = self.streams.get(number)
        if stream is None:
            self.check_astray(number)
            return
        if not stream.receives:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "wanted nothing after END_STREAM, got DATA", number)
        if self.client and not stream.answered:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted an answer to CONNECT, got DATA", number)
        stream.may_receive -= length
        if stream.may_receive < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is exceeded", number)
        if flags > END_STREAM:
            payload = unpadded(Kind.DATA, flags, payload)
            self.taken(stream, length - len(payload))
        if flags & END_STREAM:
            self.peer_ended(stream)
            self.sink.received(stream, payload, True)
        elif payload:
            self.sink.received(stream, payload, False)
        else:
            self._count_idle_talk()

    def _count_idle_talk(self) -> None:
        self._idle_talk += 1
        check_calm(self._idle_talk <= _MAX_IDLE_TALK, "the peer sends too many frames that carry nothing")

    def renew_window(self) -> None:
        """Let the peer send more on this connection, where little is left of its window and memory allows it."""
        left, whole = self._may_receive, self.bounds.connection_window
        if left >= self._low_water:
            return
        more = (whole - self.kept if self._memory.tight else whole) - left
        if more >= whole >> 3:
            self.return_window(0, more)
            self._may_receive += more

    def _on_window_update(self, _flags: int, number: int, payload: _Payload, length: int) -> None:
        check_size(Kind.WINDOW_UPDATE, length, 4)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if number:
            check(not self.idle(number), "wanted an open stream, got WINDOW_UPDATE on an idle one")
        if not more:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted a WINDOW_UPDATE of more than 0", number)
        stream = self.streams.get(number)
        if not number:
            self.may_send = _widened(self.may_send, more, 0)
            self.sink.room(None)
        elif stream is not None:
            stream.may_send = _widened(stream.may_send, more, number)
            self.sink.room(stream)

    # -- the rest --

    def _on_priority(self, _flags: int, number: int, _payload: _Payload, length: int) -> None:
        check(number != 0, "wanted PRIORITY on a stream, got stream 0")
        self._count_idle_talk()
        if length != _PRIORITY_SIZE:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "wanted PRIORITY of 5 bytes", number)

    def _on_rst_stream(self, _flags: int, number: int, payload: _Payload, length: int) -> None:
        check(not self.idle(number), "wanted an open stream, got RST_STREAM on an idle one")
        check_size(Kind.RST_STREAM, length, 4)
        stream = self.streams.pop(number, None)
        if stream is not None:
            self.just_reset += 1
            self.sink.broken(stream, _code(payload), True)

    def _on_settings(self, flags: int, number: int, payload: _Payload, length: int) -> None:
        check(number == 0, "wanted SETTINGS on stream 0, got another")
        self._count_idle_talk()
        if flags & ACK:
            check_size(Kind.SETTINGS, length, 0)
            return
        before = self.peer.initial_window
        self.peer.update(payload, from_server=self.client)
        for stream in self.streams.values():
            stream.may_send = _widened(stream.may_send, self.peer.initial_window - before, 0)
        self.outgoing += frame(Kind.SETTINGS, ACK, 0, b"")
        self.sink.room(None)

    def _on_push_promise(self, _flags: int, _number: int, _payload: _Payload, _length: int) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted no PUSH_PROMISE, got one")

    def _on_ping(self, flags: int, number: int, payload: _Payload, length: int) -> None:
        check(number == 0, "wanted PING on stream 0, got another")
        check_size(Kind.PING, length, _PING_SIZE)
        self._count_idle_talk()
        if not flags & ACK:
            self.outgoing += frame(Kind.PING, ACK, 0, bytes(payload))
        elif payload == DRAIN_PING and not self.client:
            self.leaving = True
            self.goaway(ErrorCode.NO_ERROR)

    def _on_goaway(self, _flags: int, number: int, payload: _Payload, length: int) -> None:
        check(number == 0, "wanted GOAWAY on stream 0, got another")
        if length < _SMALLEST_GOAWAY:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "wanted a GOAWAY of at least 8 bytes, got fewer")
        self.leaving = True
        last = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        for above in [above for above in self.streams if self.client and above > last]:
            self.sink.broken(self.streams.pop(above), ErrorCode.REFUSED_STREAM, True)


#: By frame type. DATA is taken before this is looked at.
_HANDLERS = (
    Http2Connection._on_data,
    Http2Connection.on_headers,
    Http2Connection._on_priority,
    Http2Connection._on_rst_stream,
    Http2Connection._on_settings,
    Http2Connection._on_push_promise,
    Http2Connection._on_ping,
    Http2Connection._on_goaway,
    Http2Connection._on_window_update,
    Http2Connection.on_continuation,
)


def _widened(window: int, more: int, number: int) -> int:
    if window + more > MAX_WINDOW:
        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"wanted a window of at most {MAX_WINDOW} bytes", number)
    return window + more


def _code(payload: _Payload) -> ErrorCode:
    """A code that is not known means INTERNAL_ERROR (RFC 9113, section 7)."""
    value = int.from_bytes(payload, "big")
    return ErrorCode(value) if value <= max(ErrorCode) else ErrorCode.INTERNAL_ERROR
