"""The app's connection: requests go out, responses come in. Pure."""

from __future__ import annotations

from typing import Protocol

from meshtls.wire.http import HttpLimits
from meshtls.wire.http2.fields import BlockReader, Field, MalformedError
from meshtls.wire.http2.frames import ErrorCode, Kind, ProtocolError
from meshtls.wire.http2.multiplexer import Payload
from meshtls.wire.http2.responses import FIRST_FINAL, ResponseHead, read_response, read_trailers
from meshtls.wire.http2.settings import MAX_FRAME, PeerSettings, Setting, settings_payload
from meshtls.wire.http2.side import HttpBounds, HttpSide, HttpStream
from meshtls.wire.http2.sink import StreamEvents
from meshtls.wire.http2.states import Expects

__all__ = ["Upstream", "UpstreamEvents"]

_SETTINGS = Expects.SETTINGS


class UpstreamEvents(StreamEvents[HttpStream], Protocol):
    """What an app's connection needs of its owner."""

    def responded(self, stream: HttpStream, head: ResponseHead, ended: bool) -> None:
        """A response's head: interim ones (1xx), then the final one. ``ended``: it has no body."""

    def trailers(self, stream: HttpStream, block: bytes) -> None:
        """The response's body ended with these trailers."""


class Upstream(HttpSide):
    """A client's side of HTTP/2, with prior knowledge."""

    sink: UpstreamEvents

    def __init__(self, sink: UpstreamEvents, limits: HttpLimits) -> None:
        bounds = HttpBounds(limits.streams)
        settings = {
            Setting.ENABLE_PUSH: 0,
            Setting.INITIAL_WINDOW_SIZE: bounds.window,
            Setting.MAX_FRAME_SIZE: MAX_FRAME,
            Setting.MAX_HEADER_LIST_SIZE: 2 * limits.header_bytes,
        }
        super().__init__(sink, bounds, settings_payload(settings), limits.header_bytes, client=True)
        self.peer = PeerSettings(limits.streams)
        self._responses = BlockReader(self.decoder, self._read)
        self._trailers = BlockReader(self.decoder, self._read_trailers)

    def feed(self, data: Payload) -> None:
        HttpSide.feed(self, data)
        if self.expects is _SETTINGS and not self._reader.may_begin(Kind.SETTINGS):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted SETTINGS as the first frame, got something else")

    def open(self, block: bytes, ended: bool) -> HttpStream:
        """Send a request, where ``can_open``."""
        number = self.highest = self.highest + 2
        stream = self.streams[number] = HttpStream(number, self.peer.initial_window, self.bounds.window)
        self.send_head(stream, block, ended)
        return stream

    def _read(self, fields: list[Field]) -> ResponseHead:
        return read_response(fields, self.decoder, self.writer)

    def _read_trailers(self, fields: list[Field]) -> bytes:
        return read_trailers(fields, self.decoder, self.writer)

    def _take_block(self, number: int, block: bytes, ended: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self.decoder.decode(block)
            self._check_closed_stream(number)
            return
        try:
            if stream.answered:
                trailers = self._trailers.read(block)
                self._end_by_peer(self._before_trailers(number, ended))
                self.sink.trailers(stream, trailers)
                return
            head = self._responses.read(block)
        except MalformedError as error:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, str(error), number) from error
        if head.status < FIRST_FINAL:
            if ended:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"wanted a final response, got {head.status}", number)
        else:
            stream.answered = True
            if ended:
                self._end_by_peer(stream)
        self.sink.responded(stream, head, bool(ended))
