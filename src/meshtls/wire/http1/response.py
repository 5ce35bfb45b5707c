"""The head of an app's response, as far as it says where the response ends (RFC 9112, sections 4 and 6). Pure."""

from __future__ import annotations

import re

import msgspec

from meshtls.wire.http1.fields import Field, FieldKind, MessageError, read_field
from meshtls.wire.http1.request import CHUNKED

__all__ = ["TO_THE_END", "TUNNEL", "ResponseHead", "response_of"]

#: The length of a body that ends with the connection.
TO_THE_END = -2
#: The connection is a tunnel from here on.
TUNNEL = -3
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_COMMON = {"HTTP/1.1 200 OK": 200}
_LENGTH = re.compile(r"[0-9]{1,18}")
_SWITCHING, _FIRST_FINAL, _OK, _FIRST_REDIRECT, _NO_CONTENT, _NOT_MODIFIED = 101, 200, 200, 300, 204, 304


class ResponseHead(msgspec.Struct, gc=False):
    """``length`` is the body's, or CHUNKED, TO_THE_END or TUNNEL. ``persists``: the connection goes on afterwards.
    ``final``: no other response to this request follows.
    """

    status: int
    length: int
    persists: bool
    final: bool


def response_of(
    section: bytes, method: str, seen: dict[str, Field], *, old: bool = False, upgrade: bool = False
) -> ResponseHead:
    """Read a head, without its END, that answers a request of this method: ``old`` if that was of HTTP/1.0, ``upgrade``
    if it asked for WebSocket. ``seen`` has fields of the connection's earlier responses. Raises MessageError.
    """
    lines = section.decode("latin-1").split("\r\n")
    status = _COMMON.get(lines[0], 0)
    old_app = False
    if not status:
        start = _STATUS_LINE.fullmatch(lines[0])
        if start is None:
            raise MessageError("wanted a status line of HTTP/1.1 or HTTP/1.0, got something else")
        status, old_app = int(start[2]), start[1] == "0"
    lengths: list[str] = []
    codings: list[str] = []
    options: list[str] = []
    upgrades: list[str] = []
    del lines[0]
    for line in lines:
        kind, (_, value) = seen.get(line) or read_field(line, seen)
        if not kind:
            continue
        if kind == FieldKind.CONTENT_LENGTH:
            lengths.append(value)
        elif kind == FieldKind.TRANSFER_ENCODING:
            codings.append(value.lower())
        elif kind == FieldKind.CONNECTION:
            options += [one.strip(" \t").lower() for one in value.split(",")]
        elif kind == FieldKind.UPGRADE:
            upgrades.append(value.lower())

    if lengths and (codings or len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
        raise MessageError("wanted one Content-Length with a number, and no Transfer-Encoding with it, got others")
    if codings and (old or codings != ["chunked"]):
        raise MessageError("wanted no Transfer-Encoding but chunked, and that in HTTP/1.1, got another")
    persists = "close" not in options and (not old_app or "keep-alive" in options)
    length = int(lengths[0]) if lengths else CHUNKED if codings else TO_THE_END
    if status == _SWITCHING:
        if not upgrade or upgrades != ["websocket"]:
            raise MessageError("wanted 101 only after a request for WebSocket, got another")
        length = TUNNEL
    elif method == "CONNECT" and _FIRST_FINAL <= status < _FIRST_REDIRECT:
        # An app for which CONNECT is a method like any other would read what follows as requests that nobody judged.
        if status != _OK or length != TO_THE_END or "close" in options:
            raise MessageError("wanted 200 without a body in answer to CONNECT, got another success")
        length = TUNNEL
    elif method == "HEAD" or status < _FIRST_FINAL or status in (_NO_CONTENT, _NOT_MODIFIED):
        length = 0
    if length == TO_THE_END:
        persists = False
    return ResponseHead(status, length, persists, status >= _FIRST_FINAL or length == TUNNEL)
