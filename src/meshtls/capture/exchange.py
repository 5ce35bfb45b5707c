"""A request and its response as they were seen, of HTTP/1.1 or HTTP/2, with what is said of gRPC. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

import msgspec

from meshtls.capture.events import ByteSink
from meshtls.capture.shown_headers import shown_text

__all__ = ["GrpcCall", "HttpExchange", "InsideBudget", "grpc_of", "note_grpc_status"]

_GRPC = "application/grpc"
_STATUS_DIGITS = 3


class GrpcCall(msgspec.Struct):
    """A call of gRPC over HTTP/2. ``status`` is grpc-status, -1 if none was seen."""

    service: str
    method: str
    status: int = -1
    message: str = ""


class HttpExchange(msgspec.Struct):
    """What was seen of one request and its response. All text is printable, and no secret of a header is in it.

    - ``stream``: the number of the stream; 0 for HTTP/1.
    - ``path``: without the query, of which only the length is shown; empty for CONNECT.
    - ``status``: of the final response; 0 as long as there is none.
    - ``request_bytes``, ``response_bytes``: of the bodies, or of a tunnel.
    - ``started_ns``, ``answered_ns``, ``ended_ns``: when the request's head, the final response's head and the end were
      whole; 0 for what was not seen.
    - ``end``: how it ended: empty while it has not, ``complete``, or words.
    - ``tunnel``: what reads the bytes inside of a CONNECT.
    """

    stream: int
    method: str = ""
    authority: str = ""
    path: str = ""
    request_headers: tuple[tuple[str, str], ...] = ()
    status: int = 0
    response_headers: tuple[tuple[str, str], ...] = ()
    grpc: GrpcCall | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    started_ns: int = 0
    answered_ns: int = 0
    ended_ns: int = 0
    end: str = ""
    tunnel: ByteSink | None = None


class InsideBudget(msgspec.Struct):
    """What may still be made of one connection and of all that is inside of it.

    - ``exchanges``: requests that are kept; later ones are counted only.
    - ``conversations``: tunnels whose bytes are read.
    """

    exchanges: int = 4096
    conversations: int = 256


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
