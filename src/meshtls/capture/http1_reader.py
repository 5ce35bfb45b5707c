"""Requests and responses of one HTTP/1.1 connection, read from the bytes of both sides (RFC 9112). Bounded. Pure.

Heads are read as strictly as our filter reads them (``wire/http1``), so that what is shown is what a sidecar would have
understood. A message that can't be read ends its direction, with the offset and the reason; the other one goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from meshtls.capture.events import ByteSink, Trouble
from meshtls.capture.exchange import Exchanges, HttpExchange, InsideBudget
from meshtls.capture.memory import Level
from meshtls.capture.shown_text import shown_path, shown_text
from meshtls.wire.http import HttpLimits
from meshtls.wire.http1.chunked import ChunkedBody
from meshtls.wire.http1.fields import END, Field, MessageError, check_partial
from meshtls.wire.http1.request import CHUNKED, LINE_BEYOND_TARGET, request_of
from meshtls.wire.http1.response import TO_THE_END, TUNNEL, response_of
from meshtls.wire.side import Side

__all__ = ["Http1Reader"]

_LIMITS = HttpLimits(header_count=256, underscore_names=True)
#: Requests that wait for their responses, and bytes that wait for the answer to CONNECT.
_MOST_PIPELINED, _MOST_WAITING = 1000, 1 << 16
#: Memory of a request that waits, and of what is known of it.
_ASKED_BYTES = 256
_CRLF = b"\r\n"


class _State(Enum):
    """What comes next in one direction."""

    HEAD = "head"
    BODY = "body"
    CHUNKS = "chunks"
    TO_THE_END = "to the end"
    ANSWER = "waits for the answer to CONNECT or an upgrade"
    TUNNEL = "tunnel"
    STOPPED = "stopped"


class _Direction:
    __slots__ = ("chunks", "ended", "exchange", "held", "left", "offset", "seen", "state")

    def __init__(self) -> None:
        self.state = _State.HEAD
        self.held = bytearray()
        self.offset = 0
        self.left = 0
        self.chunks: ChunkedBody | None = None
        self.exchange: HttpExchange | None = None
        self.seen: dict[str, Field] = {}
        self.ended = False


class _Asked(NamedTuple):
    """A request without a final response, and what of its head decides how the response is read."""

    exchange: HttpExchange
    method: str
    old: bool
    upgrade: bool
    switches: bool


class Http1Reader:
    """A ByteSink. ``exchanges``: the requests."""

    __slots__ = ("_client", "_level", "_memory", "_now", "_server", "_waiting", "exchanges", "troubles")

    def __init__(self, budget: InsideBudget, open_tunnel: Callable[[], ByteSink | None]) -> None:
        """``open_tunnel`` makes what reads a tunnel; it may decline."""
        self._memory = budget.memory
        self._level = Level(budget.memory)
        self._client, self._server = _Direction(), _Direction()
        self._waiting: deque[_Asked] = deque()
        self._now = 0
        self.exchanges = Exchanges(budget, open_tunnel)
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
        at = 0
        try:
            while at < len(data) and one.state is not _State.STOPPED:
                at = self._step(side, one, data, at)
        except MessageError as error:
            self._stop(side, start + at, str(error))
        if not self._level.to(len(self._client.held) + len(self._server.held) + len(self._waiting) * _ASKED_BYTES):
            self._no_memory()

    def gap(self, side: Side, missing: int) -> None:
        """Bytes of a body or a tunnel may be missing; without a head, nobody knows where the next one begins.

        If nobody knows what was lost between two messages, session tickets perhaps, a response may begin here. With one
        request at most that waits for it, it is the answer to that.
        """
        one = self._of(side)
        one.offset += missing
        if one.state is _State.TUNNEL:
            if one.exchange is not None and one.exchange.tunnel is not None:
                one.exchange.tunnel.gap(side, missing)
        elif one.state is _State.BODY and 0 < missing <= one.left:
            one.left -= missing
            self._count(side, one, missing)
            if not one.left:
                self._body_over(side, one)
        elif one.state is _State.TO_THE_END:
            self._count(side, one, missing)
        elif one.state is _State.HEAD and not (missing or one.held) and side is Side.SERVER and len(self._waiting) <= 1:
            return  # what begins no response is told when it is read
        elif one.state is not _State.STOPPED:
            self._stop(side, one.offset - missing, "bytes are lost: where the next message begins is unknown")

    def end(self, side: Side) -> None:
        """No more comes from ``side``: some responses end so."""
        one = self._of(side)
        if one.ended:
            return
        one.ended = True
        if one.state is _State.TO_THE_END:
            self._body_over(side, one)
        elif one.state is _State.TUNNEL:
            exchange = one.exchange
            if exchange is not None:
                if exchange.tunnel is not None:
                    exchange.tunnel.end(side)
                if self._of(side.other).ended:
                    self.exchanges.complete(exchange, self._now)
        elif one.state in (_State.BODY, _State.CHUNKS) or one.held:
            self._stop(side, one.offset, "the connection ends within a message")

    def _of(self, side: Side) -> _Direction:
        return self._client if side is Side.CLIENT else self._server

    def _step(self, side: Side, one: _Direction, data: bytes, at: int) -> int:
        """Take some of ``data`` from ``at`` on; where it goes on."""
        if one.state is _State.HEAD:
            return self._head(side, one, data, at)
        if one.state is _State.BODY:
            taken = min(one.left, len(data) - at)
            one.left -= taken
            self._count(side, one, taken)
            if not one.left:
                self._body_over(side, one)
            return at + taken
        if one.state is _State.CHUNKS:
            assert one.chunks is not None  # noqa: S101  # the state says so
            pieces: list[bytes] = []
            stop = one.chunks.feed(data, at, pieces)
            self._count(side, one, sum(map(len, pieces)))
            if one.chunks.done:
                self._body_over(side, one)
            return stop
        if one.state is _State.ANSWER:
            one.held += data[at:]
            if len(one.held) > _MOST_WAITING:
                self._stop(side, one.offset - len(one.held), "too many bytes before the answer to CONNECT")
            return len(data)
        rest = data[at:] if at else data
        self._count(side, one, len(rest))
        if one.state is _State.TUNNEL and one.exchange is not None and one.exchange.tunnel is not None:
            one.exchange.tunnel.feed(side, rest, self._now)
        return len(data)

    def _head(self, side: Side, one: _Direction, data: bytes, at: int) -> int:
        held = one.held
        before = len(held)
        held += data[at:]
        if side is Side.CLIENT and held.startswith((b"\r", b"\n")):
            # Empty lines before a request are ignored (RFC 9112, section 2.2).
            blank = len(held) - len(held.lstrip(_CRLF))
            del held[:blank]
            if blank >= before:
                at, before = at + blank - before, 0
            else:
                before -= blank
            if not held:
                return len(data)
        end = held.find(END, max(before - len(END) + 1, 0))
        if end < 0:
            longest = _LIMITS.uri_length + LINE_BEYOND_TARGET if side is Side.CLIENT else None
            check_partial(held, _LIMITS.header_bytes, first_line=longest, start=before)
            return len(data)
        section = bytes(held[:end])
        held.clear()
        at += end + len(END) - before
        if side is Side.CLIENT:
            self._request(one, section)
        else:
            self._response(one, section)
        return at

    def _request(self, one: _Direction, section: bytes) -> None:
        head = request_of(section, _LIMITS, one.seen)
        request = head.request
        exchange = HttpExchange(0, started_ns=self._now)
        method, host, path = shown_text(request.method), shown_text(request.host), shown_path(request.path)
        if not (self.exchanges.add(exchange) and self.exchanges.describe(exchange, method, host, path)):
            self._no_memory()
            return
        if len(self._waiting) >= _MOST_PIPELINED:
            raise MessageError(f"wanted at most {_MOST_PIPELINED} requests without responses, got more")
        self._waiting.append(_Asked(exchange, request.method, head.old, head.upgrade, head.switches))
        one.exchange = exchange
        if head.switches:
            one.state = _State.ANSWER
        else:
            self._begin_body(Side.CLIENT, one, head.length)

    def _response(self, one: _Direction, section: bytes) -> None:
        # Without a request it was not seen: the capture began after it, or its direction has stopped.
        asked = self._waiting[0] if self._waiting else _Asked(HttpExchange(0), "", False, False, False)
        head = response_of(section, asked.method, one.seen, old=asked.old, upgrade=asked.upgrade)
        exchange = asked.exchange
        if not self._waiting:
            if not self.exchanges.add(exchange):
                self._no_memory()
                return
        elif head.final:
            self._waiting.popleft()
        one.exchange = exchange
        if not head.final:
            return
        exchange.status, exchange.answered_ns = head.status, self._now
        if asked.switches:
            self._switched(exchange, tunnel=head.length == TUNNEL, connect=asked.method == "CONNECT")
        if head.length == TUNNEL:
            one.state = _State.TUNNEL
        else:
            self._begin_body(Side.SERVER, one, head.length)

    def _switched(self, exchange: HttpExchange, *, tunnel: bool, connect: bool) -> None:
        """The client's bytes waited for this answer."""
        client = self._client
        if client.state is not _State.ANSWER:
            return
        held = bytes(client.held)
        client.held.clear()
        client.state = _State.TUNNEL if tunnel else _State.HEAD
        if tunnel:
            client.exchange = exchange
            if connect:
                self.exchanges.open_tunnel(exchange)
        client.offset -= len(held)
        self.feed(Side.CLIENT, held, self._now)

    def _begin_body(self, side: Side, one: _Direction, length: int) -> None:
        if length == CHUNKED:
            one.state = _State.CHUNKS
            one.chunks = ChunkedBody(_LIMITS.extension_bytes, _LIMITS.trailer_bytes)
        elif length == TO_THE_END:
            one.state = _State.TO_THE_END
        elif length:
            one.state, one.left = _State.BODY, length
        else:
            self._body_over(side, one)

    def _body_over(self, side: Side, one: _Direction) -> None:
        exchange, one.exchange = one.exchange, None
        one.state, one.chunks = _State.HEAD, None
        if side is Side.SERVER and exchange is not None:
            self.exchanges.complete(exchange, self._now)

    def _count(self, side: Side, one: _Direction, length: int) -> None:
        if one.exchange is not None:
            if side is Side.CLIENT:
                one.exchange.request_bytes += length
            else:
                one.exchange.response_bytes += length

    def _no_memory(self) -> None:
        for side in Side:
            one = self._of(side)
            if one.state is not _State.STOPPED:
                self._stop(side, one.offset, f"{self._memory.words}: nothing more is read")
        self._waiting.clear()
        self._level.to(0)

    def _stop(self, side: Side, offset: int, reason: str) -> None:
        one = self._of(side)
        one.state = _State.STOPPED
        one.held.clear()
        if one.exchange is not None and not one.exchange.end:
            one.exchange.end = "cut"
        self.troubles.append(Trouble(side, offset, f"HTTP/1.1: {reason}"))

    def __repr__(self) -> str:
        return (
            f"<Http1Reader [{self.exchanges.count} requests, {self._client.state.value}, {self._server.state.value}]>"
        )
