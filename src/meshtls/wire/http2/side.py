"""What both connections of an HTTP filter share: streams joined to flows, whose turns are fair. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from meshtls.wire.http2.fields import BlockWriter, FieldDecoder
from meshtls.wire.http2.flow import FULL, Flow, Progress
from meshtls.wire.http2.frames import (
    END_HEADERS,
    END_STREAM,
    MIN_MAX_FRAME,
    PACKED_HEADER,
    ErrorCode,
    FrameReader,
    Kind,
    ProtocolError,
)
from meshtls.wire.http2.multiplexer import Multiplexer
from meshtls.wire.http2.settings import MAX_FRAME
from meshtls.wire.http2.sink import StreamEvents
from meshtls.wire.http2.streams import Ended, State, Stream

if TYPE_CHECKING:
    from meshtls.wire.http2.exchange import Exchange

__all__ = ["HttpBounds", "HttpSide", "HttpStream"]

# Members that each request needs: reading one from its enum takes longer than a call (until Python 3.12).
_BY_US, _RESTS, _MOVED, _OPEN = Ended.BY_US, Progress.RESTS, Progress.MOVED, State.OPEN
_LAST_HEADERS = END_HEADERS | END_STREAM
_HEADERS = Kind.HEADERS.value
_NO_EXCHANGE = cast("Exchange", None)
#: Bytes that are kept for slow readers on one connection. Above that, its window is returned only for what they took.
_KEPT = 1 << 22


@dataclass(frozen=True, slots=True)
class HttpBounds:
    """What each side accepts. The windows are large enough for a fast stream over a long way."""

    streams: int
    window: int = 1 << 18
    connection_window: int = 1 << 20


class HttpStream(Stream):
    """A stream of a request, at one of the two sides.

    - ``feeds``: where what it receives goes; ``fed``: what is sent on it.
    - ``exchange``: the request and its response.
    """

    __slots__ = ("exchange", "fed", "feeds")

    #: Set as soon as there is one, which is before anybody asks for it.
    exchange: Exchange

    def __init__(self, number: int, may_send: int, may_receive: int) -> None:
        # As Stream's own, which would be one more call for each of them.
        self.number = number
        self.may_send = may_send
        self.may_receive = may_receive
        self.state = _OPEN
        self.sends = self.receives = True
        self.unreturned = 0
        self.answered = False
        self.feeds: Flow | None = None
        self.fed: Flow | None = None

    def let_go(self) -> None:
        """Let go of a stream that is closed: nothing more is asked of it. Its exchange and its flows lead back here:
        each request would be left to the garbage collector.
        """
        self.feeds = self.fed = None
        self.exchange = _NO_EXCHANGE


class _Pressure:
    """Memory that is short on this connection."""

    __slots__ = ("tight",)

    def __init__(self) -> None:
        self.tight = False


class HttpSide(Multiplexer[HttpStream]):
    """One of the two connections of a filter."""

    def __init__(
        self, sink: StreamEvents[HttpStream], bounds: HttpBounds, settings: bytes, header_bytes: int, *, client: bool
    ) -> None:
        """``header_bytes``: of a head. One that is a little longer is still read, so that it can be answered."""
        self._pressure = _Pressure()
        super().__init__(sink, bounds, self._pressure, settings, client=client)
        self.max_block = max(self.max_block, 2 * header_bytes)
        self._reader = FrameReader(MAX_FRAME, self.max_block)
        self.decoder = FieldDecoder(2 * header_bytes)
        self.writer = BlockWriter()
        #: The flows that wait for their turn.
        self.turns: deque[Flow] = deque()

    # -- sending --

    def put(self, stream: HttpStream, data: memoryview | bytes, ended: bool) -> None:
        """Send DATA, at most ``room`` bytes."""
        count, outgoing = len(data), self.outgoing
        stream.may_send -= count
        self.may_send -= count
        outgoing += PACKED_HEADER.pack(count << 8, END_STREAM if ended else 0, stream.number)
        outgoing += data
        if ended:
            self._end(stream)

    def send_head(self, stream: HttpStream, block: bytes, ended: bool) -> None:
        """Send HEADERS: a head, or trailers. ``ended`` comes by position, since a keyword makes a call dearer."""
        flags = _LAST_HEADERS if ended else END_HEADERS
        count = len(block)
        if count <= MIN_MAX_FRAME and not self._first_block:
            # As ``_send_block`` does it, inlined like the header of ``put``: there are five such frames in a call.
            outgoing = self.outgoing
            outgoing += PACKED_HEADER.pack(count << 8 | _HEADERS, flags, stream.number)
            outgoing += block
        else:
            self._send_block(stream.number, block, flags)
        if ended:
            self._end(stream)

    def _end(self, stream: HttpStream) -> None:
        if stream.end(_BY_US):
            self.streams.pop(stream.number, None)
            stream.let_go()
        elif stream.feeds is not None and stream.feeds.exhausted:
            self.reset(stream, ErrorCode.NO_ERROR)

    def queue(self, flow: Flow) -> None:
        """Let the flow take its turn, now if there is room."""
        flow.queued = True
        self.turns.append(flow)
        self.advance()

    def advance_all(self) -> None:
        """The connection's window grew, or those of all streams."""
        for stream in list(self.streams.values()):
            flow = stream.fed
            if flow is not None and flow.backlog and not flow.queued and stream.may_send > 0:
                self.queue(flow)
        self.advance()

    def advance(self) -> None:
        """Give each waiting flow its turn, round and round, as long as any moves and there is room."""
        turns, blocked = self.turns, 0
        while blocked < len(turns) and len(self.outgoing) < FULL:
            flow = turns.popleft()
            progress = flow.turn()
            if progress is _RESTS:
                flow.queued = False
                continue
            turns.append(flow)
            blocked = 0 if progress is _MOVED else blocked + 1

    # -- receiving --

    def keep(self, count: int) -> None:
        """Bytes arrived that can't go on yet."""
        self.kept += count
        self._pressure.tight = self.kept > _KEPT

    def release(self, stream: HttpStream, count: int) -> None:
        """Give credit for bytes that went on, or were dropped: the sender may send as many more."""
        self.kept -= count
        self._pressure.tight = self.kept > _KEPT
        self.taken(stream, count)
        self.replenish_connection_window()

    def _before_trailers(self, number: int, ended: int) -> HttpStream:
        """The open stream for which trailers arrived. Raises ProtocolError if it may have none now."""
        stream = self.streams[number]
        if not stream.receives:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "wanted nothing after END_STREAM, got HEADERS", number)
        if not ended:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted trailers to end the stream", number)
        if stream.exchange.connects:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted DATA alone once a stream is connected", number)
        return stream
