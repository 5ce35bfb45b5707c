"""The head of a response, and trailers: read strictly, and written anew (RFC 9113, sections 8.1 to 8.3). Pure."""

from __future__ import annotations

from meshtls.wire.http import Refuse
from meshtls.wire.http2.fields import BlockWriter, Field, FieldDecoder, MalformedError
from meshtls.wire.http2.requests import checked_fields, content_length

__all__ = ["FIRST_FINAL", "ResponseHead", "read_response", "read_trailers", "refusal_block"]

FIRST_FINAL = 200
_LAST = 599
_NOT_IN_HTTP_2 = 101
_STATUS_DIGITS = 3
#: gRPC's statuses for HTTP's (PERMISSION_DENIED, UNAUTHENTICATED ...); any other is UNKNOWN.
_GRPC_STATUS = {400: 3, 401: 16, 403: 7, 404: 12, 413: 8, 414: 8, 429: 14, 431: 8, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2
_OUR_FIELDS = {"content-type", "content-length", "grpc-status", "grpc-message"}


class ResponseHead:
    """``block`` is the head as the client gets it. ``length`` is the body's length in bytes, if the head says so."""

    __slots__ = ("block", "length", "status")

    def __init__(self, status: int, block: bytes, length: int | None) -> None:
        self.status = status
        self.block = block
        self.length = length


def read_response(fields: list[Field], decoder: FieldDecoder, writer: BlockWriter) -> ResponseHead:
    """Raises MalformedError."""
    name, value = fields[0] if fields else (b"", b"")
    if name != b":status" or len(value) != _STATUS_DIGITS or not value.isdigit():
        raise MalformedError(f"wanted :status of three digits first, got {name[:80]!r} {value[:80]!r}")
    status = int(value)
    if not FIRST_FINAL // 2 <= status <= _LAST or status == _NOT_IN_HTTP_2:
        raise MalformedError(f"wanted a status of HTTP/2, got {status}")
    plain = checked_fields(fields[1:], decoder.texts)
    length = None
    for text, content in plain:
        if text == "content-length":
            length = content_length(content, length)
    return ResponseHead(status, writer.block([(b":status", value)], fields[1:], decoder.never), length)


def read_trailers(fields: list[Field], decoder: FieldDecoder, writer: BlockWriter) -> bytes:
    """Trailers, as the other side gets them. Raises MalformedError."""
    checked_fields(fields, decoder.texts)
    return writer.block((), fields, decoder.never)


def refusal_block(ruling: Refuse, body: bytes, writer: BlockWriter, *, grpc: bool) -> bytes:
    """The head of a refusal. That of a gRPC call is all of it, with the status in the place of trailers. Raises
    ValueError if a field can't be written.
    """
    if grpc:
        status = _GRPC_STATUS.get(ruling.status, _GRPC_UNKNOWN)
        ours = [
            ("content-type", "application/grpc"),
            ("grpc-status", str(status)),
            ("grpc-message", _percent_encoded(ruling.text.strip())),
        ]
    else:
        ours = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body)))]
    theirs = [(name.lower(), value) for name, value in ruling.headers if name.lower() not in _OUR_FIELDS]
    return writer.block([(":status", "200" if grpc else str(ruling.status))], [*ours, *theirs])


def _percent_encoded(text: str) -> str:
    """As gRPC's protocol over HTTP/2 has it for Status-Message."""
    return "".join(chr(one) if 0x20 <= one <= 0x7E and one != 0x25 else f"%{one:02X}" for one in text.encode())
