"""One HTTP/2 connection whose streams are all CONNECT, as tunnels use it (RFC 9113, section 8.5). Pure."""

from __future__ import annotations

from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, ErrorCode, ProtocolError
from meshtls.wire.http2.headers import ConnectRequest, HeaderDecoder, connect_block, status_block
from meshtls.wire.http2.multiplexer import DRAIN_PING, MAX_RESETS, Multiplexer
from meshtls.wire.http2.settings import TunnelBounds, own_settings
from meshtls.wire.http2.sink import Http2Events, MemoryPressure
from meshtls.wire.http2.streams import Ended, Stream
from meshtls.wire.origin import NOWHERE, Origin

__all__ = ["DRAIN_PING", "Http2Connection"]

_FIRST_FINAL = 200
_NEVER = (*range(100), 101)  # 101 exists in HTTP/1.1 only (RFC 9113, section 8.6)


class Http2Connection(Multiplexer[Stream]):
    """A tunnel: ``open`` at its client, ``accept`` or ``refuse`` at its server, and the rest as in Multiplexer."""

    sink: Http2Events

    def __init__(self, sink: Http2Events, bounds: TunnelBounds, memory: MemoryPressure, *, client: bool) -> None:
        super().__init__(sink, bounds, memory, own_settings(bounds, client=client), client=client)
        self._headers = HeaderDecoder()

    def open(self, authority: bytes, origin: Origin = NOWHERE) -> Stream:
        """CONNECT to ``authority``, where ``can_open``."""
        number = self.highest = self.highest + 2
        stream = self.streams[number] = Stream(number, self.peer.initial_window, self.bounds.window)
        self._send_block(number, connect_block(authority, origin), END_HEADERS)
        return stream

    def accept(self, stream: Stream) -> None:
        """Respond with 200: from here on the stream is the app's connection."""
        stream.answered = True
        self._send_block(stream.number, status_block(200), END_HEADERS)

    def refuse(self, stream: Stream, status: int) -> None:
        """Respond with another status, and accept nothing more on this stream (RFC 9113, section 8.1)."""
        self._send_block(stream.number, status_block(status), END_HEADERS | END_STREAM)
        if stream.end(Ended.BY_US):
            self.streams.pop(stream.number, None)
        else:
            self.reset(stream, ErrorCode.NO_ERROR)

    # -- header blocks --

    def _take_block(self, number: int, block: bytes, ended: int) -> None:
        if self.client:
            self._take_response(number, block, ended)
        else:
            self._take_request(number, block, ended)

    def _take_request(self, number: int, block: bytes, ended: int) -> None:
        if number <= self.highest:
            self._take_unwanted(number, block)
            return
        self.highest = number
        try:
            request = self._new_request(number, block)
        except ProtocolError as error:
            if error.stream_id:
                self.sink.refused(error)
            raise
        stream = self.streams[number] = Stream(number, self.peer.initial_window, self.bounds.window)
        if ended:
            stream.end(Ended.BY_PEER)
        self.sink.requested(stream, request, bool(ended))

    def _new_request(self, number: int, block: bytes) -> ConnectRequest:
        """The new stream's request. Raises ProtocolError for the stream if it can't be admitted."""
        if self.leaving:
            full = "the tunnel is draining and takes no more streams"
        elif len(self.streams) >= self.bounds.streams:
            full = f"stream limit reached (limits.tunnel_streams={self.bounds.streams})"
        elif self.resets >= MAX_RESETS:
            full = f"the peer reset more than {MAX_RESETS} streams at once"
        else:
            return self._headers.request(block, number)
        self._headers.skip(block)
        raise ProtocolError(ErrorCode.REFUSED_STREAM, full, number)

    def _take_response(self, number: int, block: bytes, ended: int) -> None:
        stream = self.streams.get(number)
        if stream is None or stream.answered or not stream.receives:
            self._take_unwanted(number, block)
            return
        status = self._headers.status(block, number)
        if status < _FIRST_FINAL:
            if ended or status in _NEVER:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"wanted a final answer, got {status}", number)
            return
        stream.answered = True
        if ended:
            self._end_by_peer(stream)
        self.sink.answered(stream, status, bool(ended))

    def _take_unwanted(self, number: int, block: bytes) -> None:
        """A connected stream carries nothing but DATA (RFC 9113, section 8.5)."""
        self._headers.skip(block)
        stream = self.streams.get(number)
        if stream is None:
            self._check_closed_stream(number)
            return
        code = ErrorCode.PROTOCOL_ERROR if stream.receives else ErrorCode.STREAM_CLOSED
        raise ProtocolError(code, "wanted DATA alone once a stream is connected, got HEADERS", number)
