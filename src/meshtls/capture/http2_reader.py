"""Requests and responses of one HTTP/2 connection, read from the frames of both sides (RFC 9113). Bounded. Pure.

Header blocks are decoded with a table for each direction (RFC 7541), which every block may change. So a direction of
which bytes are lost is not read on, where a later frame begins or not: a field of a later block could mean another one.
It says so, and the other direction goes on.

A number is of one stream only (RFC 9113, section 5.1.1). So frames of a stream that is over, as they are on their way
when its peer cancels it, are read for the table and otherwise ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from meshtls.capture.events import ByteSink, Trouble
from meshtls.capture.exchange import Exchanges, HttpExchange, InsideBudget, StreamEnd, grpc_of, note_grpc_status
from meshtls.capture.memory import Level
from meshtls.capture.shown_text import shown_path, shown_text
from meshtls.wire.http2.fields import FieldDecoder
from meshtls.wire.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    ErrorCode,
    Frame,
    FrameReader,
    Kind,
    ProtocolError,
    unpadded,
)
from meshtls.wire.http2.settings import Setting
from meshtls.wire.side import Side

__all__ = ["Goaway", "Http2Reader"]

#: The longest frame of any peer; DATA is not kept, and other frames have their own bounds.
_MAX_FRAME = (1 << 24) - 1
#: A header block, the fields of one, HPACK's table, and open streams of a connection.
_MAX_BLOCK, _MAX_FIELDS, _MAX_TABLE, _MOST_STREAMS = 1 << 16, 1 << 17, 1 << 16, 2048
_MOST_GOAWAYS, _MOST_TROUBLES = 16, 64
#: Memory of an open stream; and of a table beside each byte that HPACK counts of it.
_STREAM_BYTES, _TABLE_FACTOR = 1024, 2
_SETTING, _GOAWAY, _CODE = Struct(">HL"), Struct(">LL"), Struct(">L")
_PROMISED_BYTES = 4
_FIRST_FINAL, _FIRST_REDIRECT = 200, 300
_STATUS_DIGITS = 3
_HIGHEST_STREAM = (1 << 31) - 1
#: Of a request with Upgrade: h2c in HTTP/1.1, which no HEADERS of the client have opened (RFC 7540, section 3.2).
_UPGRADED_STREAM = 1
#: Codes of a reset that say nothing against a response that is whole (RFC 9113, section 8.1).
_HARMLESS = (ErrorCode.NO_ERROR, ErrorCode.CANCEL)
_UNREAD = "not read to its end"
_LOST = "bytes are lost: no later request or response of this side is read, since the meaning of its fields is lost too"


class Goaway(NamedTuple):
    """A GOAWAY of ``side``: it handles no stream above ``last``. ``code`` in words (RFC 9113, section 7)."""

    side: Side
    time_ns: int
    last: int
    code: str


class _Stream:
    __slots__ = ("ended", "exchange", "heads")

    def __init__(self, exchange: HttpExchange) -> None:
        self.exchange = exchange
        #: Sides that have ended their part.
        self.ended: set[Side] = set()
        #: Sides whose head was seen: what follows are trailers.
        self.heads: set[Side] = set()


class _Direction:
    __slots__ = (
        "block",
        "block_flags",
        "block_kind",
        "block_stream",
        "decoder",
        "goaway",
        "offset",
        "preface",
        "promised",
        "reader",
        "stopped",
    )

    def __init__(self) -> None:
        self.reader = FrameReader(_MAX_FRAME, _MAX_BLOCK)
        self.decoder = FieldDecoder(_MAX_FIELDS)
        self.offset = 0
        self.preface = b""
        self.stopped = False
        #: A header block whose CONTINUATIONs have not all come; ``block_stream`` is 0 without one.
        self.block = bytearray()
        self.block_stream = self.block_flags = self.block_kind = self.promised = 0
        #: Its GOAWAY with the lowest last stream.
        self.goaway: Goaway | None = None

    @property
    def kept(self) -> int:
        """Bytes of memory."""
        return self.reader.kept + len(self.block) + _TABLE_FACTOR * self.decoder.table_bytes

    def stop(self) -> None:
        """Read no more of it."""
        self.stopped = True
        self.reader, self.decoder = FrameReader(_MAX_FRAME, _MAX_BLOCK), FieldDecoder(_MAX_FIELDS)
        self.block.clear()


class Http2Reader:
    """A ByteSink. ``exchanges``: the requests. ``frames`` counts the frames of both sides."""

    __slots__ = (
        *("_client", "_highest_promised", "_highest_requested", "_level", "_memory", "_now", "_saw_first"),
        *("_server", "_streams", "exchanges", "frames", "goaways", "troubles"),
    )

    def __init__(self, budget: InsideBudget, open_tunnel: Callable[[], ByteSink | None]) -> None:
        """``open_tunnel`` makes what reads a tunnel; it may decline."""
        self._memory = budget.memory
        self._level = Level(budget.memory)
        self._client, self._server = _Direction(), _Direction()
        self._client.preface = PREFACE
        #: Those that are open.
        self._streams: dict[int, _Stream] = {}
        self._highest_requested = self._highest_promised = 0
        self._saw_first = False
        self._now = 0
        self.exchanges = Exchanges(budget, open_tunnel)
        self.frames = 0
        self.goaways: list[Goaway] = []
        self.troubles: list[Trouble] = []

    def skip(self, side: Side, count: int) -> None:
        """So many bytes of ``side`` came before what is read here: offsets count them."""
        self._of(side).offset = count

    def feed(self, side: Side, data: bytes, time_ns: int) -> None:
        """What ``side`` sent next. Nothing is raised: see ``troubles``."""
        self._now = time_ns
        one = self._of(side)
        start = one.offset
        one.offset += len(data)
        if one.stopped:
            return
        if one.preface:
            preface, length = one.preface, min(len(one.preface), len(data))
            if data[:length] != preface[:length]:
                self._stop(side, start, "wanted the connection preface first, got something else")
                return
            one.preface, data = preface[length:], data[length:]
        try:
            for frame in one.reader.feed(data):
                self._frame(side, one, frame)
                if one.stopped:
                    break
        except ProtocolError as error:
            self._stop(side, start, str(error))
        kept = self._client.kept + self._server.kept + len(self._streams) * _STREAM_BYTES
        if not self._level.to(kept):
            self._no_memory()

    def gap(self, side: Side, missing: int) -> None:
        """Frames are lost, and with them what they changed in the table of this direction."""
        one = self._of(side)
        one.offset += missing
        if not one.stopped:
            self._stop(side, one.offset - missing, _LOST)

    def end(self, side: Side) -> None:
        """No more comes from ``side``."""
        for stream in self._streams.values():
            if stream.exchange.tunnel is not None and side not in stream.ended:
                stream.exchange.tunnel.end(side)

    def _of(self, side: Side) -> _Direction:
        return self._client if side is Side.CLIENT else self._server

    def _frame(self, side: Side, one: _Direction, frame: Frame) -> None:
        kind, flags, number, payload, _ = frame
        self.frames += 1
        if one.block_stream and (kind != Kind.CONTINUATION or number != one.block_stream):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted the rest of a header block, got another frame")
        if kind == Kind.DATA:
            self._data(side, number, flags, unpadded(kind, flags, payload))
        elif kind in (Kind.HEADERS, Kind.PUSH_PROMISE, Kind.CONTINUATION):
            self._headers(side, one, kind, flags, number, payload)
        elif kind == Kind.RST_STREAM and len(payload) == _CODE.size:
            self._reset(side, number, _CODE.unpack(payload)[0])
        elif kind == Kind.SETTINGS and not flags & ACK:
            self._settings(side, payload)
        elif kind == Kind.GOAWAY and len(payload) >= _GOAWAY.size and len(self.goaways) < _MOST_GOAWAYS:
            last, code = _GOAWAY.unpack_from(payload)
            self._goaway(one, Goaway(side, self._now, last & _HIGHEST_STREAM, _code(code)))

    def _goaway(self, one: _Direction, goaway: Goaway) -> None:
        self.goaways.append(goaway)
        if one.goaway is None or goaway.last < one.goaway.last:
            one.goaway = goaway
            for number, stream in self._streams.items():
                self._note_refusal(number, stream.exchange)

    def _note_refusal(self, number: int, exchange: HttpExchange) -> None:
        """Say so if a GOAWAY of the peer is why a request is not handled. A response nevertheless says more."""
        goaway = self._of(Side.CLIENT if _is_pushed(number) else Side.SERVER).goaway
        if goaway is not None and number > goaway.last:
            exchange.end = f"not handled, GOAWAY of the {goaway.side.value}: {goaway.code}"
            exchange.ended_ns = self._now

    def _settings(self, side: Side, payload: memoryview | bytes) -> None:
        for at in range(0, len(payload) - _SETTING.size + 1, _SETTING.size):
            name, value = _SETTING.unpack_from(payload, at)
            if name == Setting.HEADER_TABLE_SIZE:
                # What one side allows is the size of the table that the other one writes with.
                self._of(side.other).decoder.allow_table(min(value, _MAX_TABLE))

    def _headers(
        self, side: Side, one: _Direction, kind: int, flags: int, number: int, payload: memoryview | bytes
    ) -> None:
        if kind == Kind.CONTINUATION:
            if not one.block_stream:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted CONTINUATION after HEADERS only, got it alone")
        else:
            if not number:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted HEADERS of a stream, got stream 0")
            payload = unpadded(kind, flags, payload)
            if kind == Kind.PUSH_PROMISE:
                if len(payload) < _PROMISED_BYTES:
                    raise ProtocolError(
                        ErrorCode.FRAME_SIZE_ERROR, "wanted the number of the promised stream, got less"
                    )
                one.promised = _CODE.unpack_from(payload)[0] & _HIGHEST_STREAM
                payload = payload[_PROMISED_BYTES:]
            one.block_stream, one.block_flags, one.block_kind = number, flags, kind
        one.block += payload
        if len(one.block) > _MAX_BLOCK:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"wanted a header block of at most {_MAX_BLOCK} bytes")
        if flags & END_HEADERS:
            block, flags, kind = bytes(one.block), one.block_flags, one.block_kind
            one.block.clear()
            one.block_stream = 0
            fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in one.decoder.decode(block)]
            if kind == Kind.HEADERS:
                self._section(side, number, fields, ended=bool(flags & END_STREAM))
            elif side is Side.SERVER:
                self._promise(one.promised, fields)

    def _section(self, side: Side, number: int, fields: list[tuple[str, str]], *, ended: bool) -> None:
        """A head or trailers of a stream."""
        stream = self._streams.get(number) or self._opened(number)
        if stream is None or side in stream.ended:
            return
        exchange = stream.exchange
        if side is Side.CLIENT:
            self._highest_requested = max(number, self._highest_requested)
            if side not in stream.heads:
                stream.heads.add(side)
                self._request(exchange, fields)
        else:
            status = _status(fields)
            if side not in stream.heads and status >= _FIRST_FINAL:
                stream.heads.add(side)
                exchange.status, exchange.answered_ns = status, self._now
            if exchange.grpc is not None:
                note_grpc_status(exchange.grpc, fields)
        if ended:
            self._ended(side, number, stream)

    def _opened(self, number: int) -> _Stream | None:
        """The stream that these HEADERS open; None if its number was used, or is one that they can't open."""
        used = number <= self._highest_requested
        if number == _UPGRADED_STREAM:
            used, self._saw_first = self._saw_first, True
        if used or _is_pushed(number):
            return None
        # A response before its request: it was captured first, or the client's direction stopped.
        return self._add(number)

    def _promise(self, number: int, fields: list[tuple[str, str]]) -> None:
        """A request that the server makes in the client's place (RFC 9113, section 8.4)."""
        if number <= self._highest_promised or not _is_pushed(number):
            return
        self._highest_promised = number
        stream = self._add(number)
        if stream is not None:
            stream.heads.add(Side.CLIENT)
            stream.ended.add(Side.CLIENT)
            self._request(stream.exchange, fields)

    def _add(self, number: int) -> _Stream | None:
        if len(self._streams) >= _MOST_STREAMS:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"wanted at most {_MOST_STREAMS} open streams, got more")
        stream = _Stream(HttpExchange(number))
        if not self.exchanges.add(stream.exchange):
            self._no_memory()
            return None
        self._note_refusal(number, stream.exchange)
        self._streams[number] = stream
        return stream

    def _request(self, exchange: HttpExchange, fields: list[tuple[str, str]]) -> None:
        pseudo = {name: value for name, value in fields if name[:1] == ":"}
        plain = [field for field in fields if field[0][:1] != ":"]
        path = pseudo.get(":path", "")
        method, authority = shown_text(pseudo.get(":method", "")), shown_text(pseudo.get(":authority", ""))
        if not self.exchanges.describe(exchange, method, authority, shown_path(path), grpc_of(path, plain)):
            self._no_memory()
            return
        exchange.started_ns = self._now
        if method == "CONNECT" and ":protocol" not in pseudo and not _is_pushed(exchange.stream):
            # A client may send before it is answered, as ours does.
            self.exchanges.open_tunnel(exchange)

    def _data(self, side: Side, number: int, flags: int, content: memoryview | bytes) -> None:
        stream = self._streams.get(number)
        if stream is None or side in stream.ended:
            return
        exchange = stream.exchange
        if side is Side.CLIENT:
            exchange.request_bytes += len(content)
        else:
            exchange.response_bytes += len(content)
        if exchange.tunnel is not None and content and exchange.status < _FIRST_REDIRECT:
            exchange.tunnel.feed(side, bytes(content), self._now)
        if flags & END_STREAM:
            self._ended(side, number, stream)

    def _ended(self, side: Side, number: int, stream: _Stream) -> None:
        stream.ended.add(side)
        if stream.exchange.tunnel is not None:
            stream.exchange.tunnel.end(side)
            stream.exchange.tunnel_ends += (StreamEnd(side, False, self._now),)
        if side.other in stream.ended or self._of(side.other).stopped:
            self._close(number)

    def _reset(self, side: Side, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.exchange.tunnel is not None:
            stream.exchange.tunnel_ends += (StreamEnd(side, True, self._now),)
        # A server may answer without having read the request to its end (RFC 9113, section 8.1).
        if Side.SERVER in stream.ended and code in _HARMLESS:
            self._close(number)
        else:
            self._close(number, f"reset by the {side.value}: {_code(code)}")

    def _close(self, number: int, reason: str = "") -> None:
        """A stream is over in both directions. Without a reason it is complete once the server has ended it."""
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        exchange = stream.exchange
        if Side.SERVER not in stream.ended:
            reason = reason or exchange.end or _UNREAD
        self.exchanges.complete(exchange, self._now)
        exchange.end = reason or exchange.end
        if exchange.tunnel is not None:
            for one in Side:
                if one not in stream.ended:
                    exchange.tunnel.end(one)

    def _no_memory(self) -> None:
        for side in Side:
            one = self._of(side)
            if not one.stopped:
                self._stop(side, one.offset, f"{self._memory.words}: nothing more is read")
        self._streams.clear()
        self._level.to(0)

    def _stop(self, side: Side, offset: int, reason: str) -> None:
        self._of(side).stop()
        for number, stream in list(self._streams.items()):
            if stream.exchange.tunnel is not None and side not in stream.ended:
                stream.exchange.tunnel.gap(side, 0)
            if side.other in stream.ended or self._of(side.other).stopped:
                self._close(number)
        if len(self.troubles) < _MOST_TROUBLES:
            self.troubles.append(Trouble(side, offset, f"HTTP/2: {reason}"))

    def __repr__(self) -> str:
        return f"<Http2Reader [{self.exchanges.count} requests, {len(self._streams)} open, {self.frames} frames]>"


def _is_pushed(number: int) -> bool:
    """Streams that the server opens have even numbers (RFC 9113, section 5.1.1)."""
    return not number % 2


def _status(fields: list[tuple[str, str]]) -> int:
    for name, value in fields:
        if name == ":status" and len(value) == _STATUS_DIGITS and value.isascii() and value.isdigit():
            return int(value)
    return 0


def _code(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"code {code}"
