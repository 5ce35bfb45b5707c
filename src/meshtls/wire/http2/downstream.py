"""The client's connection: requests come in, responses go out. Pure."""

from __future__ import annotations

from typing import Protocol

from meshtls.wire.http import HttpLimits
from meshtls.wire.http2.fields import BlockReader, Field, MalformedError
from meshtls.wire.http2.frames import ErrorCode, ProtocolError
from meshtls.wire.http2.multiplexer import MAX_RESETS
from meshtls.wire.http2.requests import RequestHead, beginning_of, check_trailers, passed_trailers, read_request
from meshtls.wire.http2.responses import read_trailers
from meshtls.wire.http2.settings import MAX_FRAME, Setting, settings_payload
from meshtls.wire.http2.side import HttpBounds, HttpSide, HttpStream
from meshtls.wire.http2.sink import StreamEvents
from meshtls.wire.http2.streams import Ended

__all__ = ["Downstream", "DownstreamEvents"]


class DownstreamEvents(StreamEvents[HttpStream], Protocol):
    """What a client's connection needs of its owner."""

    def requested(self, stream: HttpStream, head: RequestHead, ended: bool) -> None:
        """A request. ``ended``: it has no body."""

    def unread(self, beginning: tuple[str, str, str], error: ProtocolError) -> None:
        """A request was refused: it breaks a rule, or there are too many. ``beginning``: see ``beginning_of``."""

    def trailers(self, stream: HttpStream, block: bytes) -> None:
        """The request's body ended with these trailers."""


class Downstream(HttpSide):
    """A server's side of HTTP/2."""

    sink: DownstreamEvents

    def __init__(self, sink: DownstreamEvents, limits: HttpLimits) -> None:
        bounds = HttpBounds(limits.streams)
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: limits.streams,
            Setting.INITIAL_WINDOW_SIZE: bounds.window,
            Setting.MAX_FRAME_SIZE: MAX_FRAME,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            Setting.ENABLE_CONNECT_PROTOCOL: 1,
        }
        super().__init__(sink, bounds, settings_payload(settings), limits.header_bytes, client=False)
        self._limits = limits
        self._requests = BlockReader(self.decoder, self._read)

    def _read(self, fields: list[Field]) -> RequestHead:
        """Raises ProtocolError of the stream that begins."""
        try:
            return read_request(fields, self.decoder, self._limits)
        except MalformedError as error:
            raise self._refusal(beginning_of(fields), ErrorCode.PROTOCOL_ERROR, str(error)) from error

    def _refusal(self, beginning: tuple[str, str, str], code: ErrorCode, why: str) -> ProtocolError:
        error = ProtocolError(code, why, self.highest)
        self.sink.unread(beginning, error)
        return error

    def _take_block(self, number: int, block: bytes, ended: int) -> None:
        if number <= self.highest:
            self._take_late(number, block, ended)
            return
        self.highest = number
        if self.leaving or len(self.streams) >= self.bounds.streams or self.resets >= MAX_RESETS:
            fields = self.decoder.decode(block)
            raise self._refusal(beginning_of(fields), ErrorCode.REFUSED_STREAM, "no more streams are accepted now")
        head = self._requests.read(block)
        if ended and head.length:
            beginning = head.request.method, head.request.host, head.request.path
            raise self._refusal(beginning, ErrorCode.PROTOCOL_ERROR, "wanted a body as long as Content-Length says")
        stream = self.streams[number] = HttpStream(number, self.peer.initial_window, self.bounds.window)
        if ended:
            stream.end(Ended.BY_PEER)
        self.sink.requested(stream, head, bool(ended))

    def _take_late(self, number: int, block: bytes, ended: int) -> None:
        fields = self.decoder.decode(block)
        if number not in self.streams:
            self._check_closed_stream(number)
            return
        stream = self._before_trailers(number, ended)
        try:
            check_trailers(fields, self.decoder, self._limits)
            passed = passed_trailers(fields, stream.exchange.head) if self._limits.pass_trailers else []
            trailers = read_trailers(passed, self.decoder, self.writer)
        except MalformedError as error:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, str(error), number) from error
        self._end_by_peer(stream)
        self.sink.trailers(stream, trailers)
