"""The header blocks that come in: HEADERS and CONTINUATION, requests to a server and answers to a client. Pure."""

from __future__ import annotations

from meshtls.sidecar.tunnel.frames import (
    END_HEADERS,
    END_STREAM,
    ErrorCode,
    Kind,
    ProtocolError,
    unpadded,
)
from meshtls.sidecar.tunnel.headers import HeaderReader, Request
from meshtls.sidecar.tunnel.rules import check, check_calm
from meshtls.sidecar.tunnel.sending import Sender
from meshtls.sidecar.tunnel.settings import TunnelBounds
from meshtls.sidecar.tunnel.sink import Sink
from meshtls.sidecar.tunnel.streams import Ended, Stream

__all__ = ["BlockTaker"]

_MAX_BLOCK = 1 << 15
_MAX_CONTINUATIONS = 16
#: Resets in one receive: each has cost a connection to the app.
_MOST_JUST_RESET = 100
_FIRST_FINAL = 200
_NEVER = (*range(100), 101)  # 101 is HTTP/1.1's alone (RFC 9113, section 8.6)


class BlockTaker(Sender):
    """A Sender that also takes header blocks. ``plain``: no block is unfinished, and SETTINGS have come."""

    def __init__(self, sink: Sink, bounds: TunnelBounds, *, client: bool) -> None:
        super().__init__(bounds, client=client)
        self.sink = sink
        self.plain = False
        #: Streams that the peer has reset since ``feed`` was called: each has cost us a connection to the app.
        self.just_reset = 0
        self._headers = HeaderReader()
        self._take_block = self._take_answer if client else self._take_request
        #: Of an unfinished block the stream, END_STREAM, and the fragments so far.
        self._block: tuple[int, int, list[bytes]] | None = None

    def check_goes_on(self, kind: int, number: int) -> None:
        """A header block is one unit: nothing comes between its frames (RFC 9113, section 4.3)."""
        if self._block is not None:
            whole = kind == Kind.CONTINUATION and number == self._block[0]
            check(whole, "wanted the rest of a header block, got another frame")

    def on_headers(self, flags: int, number: int, payload: memoryview | bytes, _length: int) -> None:
        check(number & 1 == 1, "wanted HEADERS on a stream of the client's, got another number")
        fragment = bytes(unpadded(Kind.HEADERS, flags, payload))
        if flags & END_HEADERS:
            self._take_block(number, fragment, flags & END_STREAM)
        else:
            self._block, self.plain = (number, flags & END_STREAM, [fragment]), False

    def on_continuation(self, flags: int, number: int, payload: memoryview | bytes, _length: int) -> None:
        if self._block is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted HEADERS before CONTINUATION, got none")
        _, ended, fragments = self._block
        fragments.append(bytes(payload))
        short = len(fragments) <= _MAX_CONTINUATIONS and sum(map(len, fragments)) <= _MAX_BLOCK
        check_calm(short, "the peer's header block is too long")
        if flags & END_HEADERS:
            self._block, self.plain = None, True
            self._take_block(number, b"".join(fragments), ended)

    def _take_request(self, number: int, block: bytes, ended: int) -> None:
        if number <= self.highest:
            self._take_unwanted(number, block)
            return
        self.highest = number
        try:
            request = self._admitted(number, block)
        except ProtocolError as error:
            if error.stream_id:
                self.sink.refused(error)
            raise
        stream = self.streams[number] = Stream(number, self.peer.initial_window, self.bounds.window)
        if ended:
            stream.end(Ended.BY_PEER)
        self.sink.asked(stream, request, bool(ended))

    def _admitted(self, number: int, block: bytes) -> Request:
        """What the new stream asks for. Raises ProtocolError of the stream where there is no room for it."""
        if self.leaving:
            full = "the tunnel is draining and takes no more streams"
        elif len(self.streams) >= self.bounds.streams:
            full = f"stream limit reached (limits.tunnel_streams={self.bounds.streams})"
        elif self.just_reset >= _MOST_JUST_RESET:
            full = f"the peer reset more than {_MOST_JUST_RESET} streams at once"
        else:
            return self._headers.request(block, number)
        self._headers.skip(block)
        raise ProtocolError(ErrorCode.REFUSED_STREAM, full, number)

    def _take_answer(self, number: int, block: bytes, ended: int) -> None:
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
            self.peer_ended(stream)
        self.sink.answered(stream, status, bool(ended))

    def _take_unwanted(self, number: int, block: bytes) -> None:
        """A connected stream carries DATA alone (RFC 9113, section 8.5)."""
        self._headers.skip(block)
        stream = self.streams.get(number)
        if stream is None:
            self.check_astray(number)
            return
        code = ErrorCode.PROTOCOL_ERROR if stream.receives else ErrorCode.STREAM_CLOSED
        raise ProtocolError(code, "wanted DATA alone once a stream is connected, got HEADERS", number)
