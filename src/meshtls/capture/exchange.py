"""A request and its response as they were seen, of HTTP/1.1 or HTTP/2, with what is said of gRPC. Bounded. Pure.

Headers are not kept: no report shows one, and HPACK makes a thousand bytes of them from one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from meshtls.capture.events import ByteSink
from meshtls.capture.memory import MemoryPool, MemoryShare
from meshtls.capture.shown_text import shown_text
from meshtls.wire.side import Side

__all__ = ["Exchanges", "GrpcCall", "HttpExchange", "InsideBudget", "StreamEnd", "grpc_of", "note_grpc_status"]

_GRPC = "application/grpc"
_STATUS_DIGITS = 3
#: Memory of an exchange besides its texts; and of a conversation that has seen nothing yet.
_EXCHANGE_BYTES, _CONVERSATION_BYTES = 512, 4096


class GrpcCall(msgspec.Struct):
    """A call of gRPC over HTTP/2. ``status`` is grpc-status, -1 if none was seen."""

    service: str
    method: str
    status: int = -1
    message: str = ""


class StreamEnd(NamedTuple):
    """A side has ended a stream of HTTP/2, or reset it, which ends it for both."""

    side: Side
    reset: bool
    time_ns: int


class HttpExchange(msgspec.Struct):
    """What was seen of one request and its response. All text is printable, and no header is in it.

    - ``stream``: the number of the stream; 0 for HTTP/1.
    - ``path``: without the query, of which only the length is shown; empty for CONNECT.
    - ``status``: of the final response; 0 as long as there is none.
    - ``request_bytes``, ``response_bytes``: of the bodies, or of a tunnel.
    - ``started_ns``, ``answered_ns``, ``ended_ns``: when the request's head, the final response's head and the end were
      whole; 0 for what was not seen.
    - ``end``: how it ended: empty while it has not, ``complete``, or words.
    - ``tunnel``: what reads the bytes inside of a CONNECT. ``tunnel_ends``: how its stream of HTTP/2 ended.
    - ``kept``: it is in the list; otherwise it is counted, and has no texts.
    """

    stream: int
    method: str = ""
    authority: str = ""
    path: str = ""
    status: int = 0
    grpc: GrpcCall | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    started_ns: int = 0
    answered_ns: int = 0
    ended_ns: int = 0
    end: str = ""
    tunnel: ByteSink | None = None
    tunnel_ends: tuple[StreamEnd, ...] = ()
    kept: bool = False


class InsideBudget(msgspec.Struct):
    """What may still be made of one connection and of all that is inside of it.

    - ``exchanges``: requests that are kept; later ones are counted only.
    - ``conversations``: tunnels whose bytes are read.
    - ``memory``: what may be kept of all of it.
    """

    exchanges: int = 1024
    conversations: int = 256
    memory: MemoryShare = msgspec.field(default_factory=lambda: MemoryPool().share())

    def opens(self) -> bool:
        """Whether one more conversation may be read, which is counted."""
        if self.conversations <= 0 or not self.memory.take(_CONVERSATION_BYTES):
            return False
        self.conversations -= 1
        return True


class Exchanges:
    """The requests of one connection of HTTP.

    - ``kept``: in their order, of which the budget bounds the number. ``count``: of all of them.
    """

    __slots__ = ("_budget", "_open_tunnel", "count", "kept")

    def __init__(self, budget: InsideBudget, open_tunnel: Callable[[], ByteSink | None]) -> None:
        """``open_tunnel`` makes what reads a tunnel; it may decline."""
        self._budget, self._open_tunnel = budget, open_tunnel
        self.kept: list[HttpExchange] = []
        self.count = 0

    def add(self, exchange: HttpExchange) -> bool:
        """One more request. False if there is no memory for it: nothing more can be read, then."""
        self.count += 1
        if self._budget.exchanges <= 0:
            return True
        if not self._budget.memory.take(_EXCHANGE_BYTES):
            return False
        self._budget.exchanges -= 1
        exchange.kept = True
        self.kept.append(exchange)
        return True

    def describe(
        self, exchange: HttpExchange, method: str, authority: str, path: str, grpc: GrpcCall | None = None
    ) -> bool:
        """What is asked for. False as in ``add``."""
        if not exchange.kept:
            return True
        texts = len(method) + len(authority) + len(path)
        if grpc is not None:
            texts += len(grpc.service) + len(grpc.method) + _EXCHANGE_BYTES
        if not self._budget.memory.take(texts):
            return False
        exchange.method, exchange.authority, exchange.path, exchange.grpc = method, authority, path, grpc
        return True

    def open_tunnel(self, exchange: HttpExchange) -> None:
        """Let what is inside of a CONNECT be read."""
        exchange.tunnel = self._open_tunnel()

    def complete(self, exchange: HttpExchange, time_ns: int) -> None:
        """The exchange ended as it should."""
        exchange.end, exchange.ended_ns = "complete", time_ns


def grpc_of(path: str, headers: Iterable[tuple[str, str]]) -> GrpcCall | None:
    """The call of a request with this path, if it is one of gRPC."""
    if not any(name == "content-type" and value.startswith(_GRPC) for name, value in headers):
        return None
    service, _, method = path.removeprefix("/").rpartition("/")
    return GrpcCall(shown_text(service), shown_text(method))


def note_grpc_status(call: GrpcCall, headers: Iterable[tuple[str, str]]) -> None:
    """Take grpc-status and grpc-message out of a response's head or trailers."""
    for name, value in headers:
        if name == "grpc-status" and value.isascii() and value.isdigit() and len(value) <= _STATUS_DIGITS:
            call.status = int(value)
        elif name == "grpc-message":
            call.message = shown_text(unquote(value[:1024]))
