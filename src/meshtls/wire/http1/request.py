"""The head of a request, read strictly (RFC 9112, sections 2 to 6; RFC 9110, sections 4 to 7). Pure."""

from __future__ import annotations

import re

import msgspec

from meshtls.wire.http import SHOWN_METHOD, SHOWN_PATH, HttpLimits, HttpRequest
from meshtls.wire.http1.fields import END, Field, FieldKind, MessageError, check_partial, read_field
from meshtls.wire.http_rules import has_port, is_host, is_method

__all__ = ["CHUNKED", "LINE_BEYOND_TARGET", "RequestHead", "beginning_of", "is_target", "request_of"]

#: The length of a body that is chunked.
CHUNKED = -1
#: What a request line may have beside the target: method, version and blanks.
LINE_BEYOND_TARGET = 48
_MOST_OPTIONS = 32
_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
_ABSOLUTE = re.compile(r"https?://([^/?]*)([/?].*)?", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}")
_UNDERSCORE = FieldKind.UNDERSCORE.value
_HOST_KIND, _HOP = FieldKind.HOST.value, FieldKind.HOP.value
_CONTENT_LENGTH, _TRANSFER_ENCODING = FieldKind.CONTENT_LENGTH.value, FieldKind.TRANSFER_ENCODING.value
_CONNECTION, _UPGRADE, _EXPECT = FieldKind.CONNECTION.value, FieldKind.UPGRADE.value, FieldKind.EXPECT.value
_FRAMING = frozenset(("host", "content-length", "transfer-encoding"))


class RequestHead(msgspec.Struct, gc=False):
    """A request's head.

    ``length`` is its body's, or CHUNKED. ``persists``: the client goes on using the connection afterwards. ``old``: it
    speaks HTTP/1.0. ``upgrade``: it asks for WebSocket. ``expects``: it waits for 100 (Continue). ``switches``: the
    answer may turn the connection into a tunnel, for WebSocket or CONNECT. ``written`` are the bytes that the app got
    with the request ``written_for``: see ``request_bytes``.
    """

    request: HttpRequest
    length: int = 0
    persists: bool = True
    old: bool = False
    upgrade: bool = False
    expects: bool = False
    switches: bool = False
    written_for: HttpRequest | None = None
    written: bytes = b""


def request_of(section: bytes, limits: HttpLimits, seen: dict[str, Field]) -> RequestHead:
    """Read a head, without its END. ``seen`` has fields of the connection's earlier heads. Raises MessageError."""
    longest = limits.uri_length + LINE_BEYOND_TARGET
    if len(section) > limits.header_bytes - len(END) or len(section) > limits.uri_length:
        check_partial(section + END, limits.header_bytes, first_line=longest)
    try:
        return _request_of(section, limits, seen)
    except MessageError:
        # What would have been refused before the head was complete is refused for the same reason now.
        check_partial(section + END, limits.header_bytes, first_line=longest)
        raise


def _request_of(section: bytes, limits: HttpLimits, seen: dict[str, Field]) -> RequestHead:
    lines = section.decode("latin-1").split("\r\n")
    if len(lines) > limits.header_count + 1:
        raise MessageError(f"wanted at most {limits.header_count} fields, got {len(lines) - 1}", 431)
    start = lines[0].split(" ")
    if len(start) != 3:
        raise MessageError("wanted a method, a target and a version with one space between, got something else")
    method, target, version = start
    if method not in _KNOWN_METHODS and not is_method(method):
        raise MessageError("wanted a method in capital letters, got something else")
    if version != "HTTP/1.1" and version != "HTTP/1.0":
        raise MessageError("wanted HTTP/1.1 or HTTP/1.0, got another version")
    if len(target) > limits.uri_length:
        raise MessageError(f"wanted a target of at most {limits.uri_length} bytes, got more", 414)

    old = version == "HTTP/1.0"
    headers: list[tuple[str, str]] = []
    special: list[tuple[int, str]] = []
    host = ""
    del lines[0]
    for line in lines:
        kind, field = seen.get(line) or read_field(line, seen)
        if not kind:
            headers.append(field)
        elif kind == _HOST_KIND and not host:
            host = field[1]
            if not is_host(host):
                raise MessageError("wanted a host in Host, with or without a port, got something else")
        elif kind == _UNDERSCORE:
            if not limits.underscore_names:
                raise MessageError(f"wanted no underscore in a field's name, got {field[0][:40]}")
            headers.append(field)
        elif kind != _CONNECTION or old or field[1] != "keep-alive":
            special.append((kind, field[1]))
    if not host:
        raise MessageError("wanted one Host, got none")
    if method == "CONNECT" or not is_target(target):
        target = _target_of(method, target, host)
    if not special and not old and method != "CONNECT":
        return RequestHead(HttpRequest(method, host, target, tuple(headers)))
    return _with_special(method, host, target, headers, special, old)


def _with_special(
    method: str, host: str, target: str, headers: list[tuple[str, str]], special: list[tuple[int, str]], old: bool
) -> RequestHead:
    """The head of a request that has fields about its framing or its connection."""
    length_text = coding = expect = None
    options: list[str] = []
    upgrades: list[str] = []
    for kind, value in special:
        if kind == _CONNECTION:
            options += [one.strip(" \t").lower() for one in value.split(",")]
        elif kind == _CONTENT_LENGTH and length_text is None:
            length_text = value
        elif kind == _TRANSFER_ENCODING and coding is None:
            coding = value
        elif kind == _UPGRADE:
            upgrades.append(value.lower())
        elif kind == _EXPECT and expect is None:
            expect = value
        elif kind != _HOP:
            raise MessageError(f"wanted one {FieldKind(kind).name.lower().replace('_', '-')} at most, got several")
    length = _body_length(length_text, coding, old)
    if method == "CONNECT" and length:
        raise MessageError("wanted a CONNECT without a body, got one with a body")
    if len(options) > _MOST_OPTIONS:
        raise MessageError(f"wanted at most {_MOST_OPTIONS} options in Connection, got {len(options)}", 431)
    if options:
        if not _FRAMING.isdisjoint(options):
            raise MessageError("wanted names of this connection's fields in Connection, got a field of the request")
        headers = [field for field in headers if field[0] not in options]
    if expect is not None and expect.lower() != "100-continue":
        raise MessageError("wanted no Expect but 100-continue, got another", 417)
    expects = expect is not None and not old and bool(length)
    if expects:
        headers.append(("expect", "100-continue"))
    persists = "close" not in options and (not old or "keep-alive" in options)
    upgrade = (
        upgrades == ["websocket"] and "upgrade" in options and persists and not old and not length and method == "GET"
    )
    if upgrade:
        headers.append(("upgrade", "websocket"))  # for the policies, as of a WebSocket of HTTP/2
    request = HttpRequest(method, host, target, tuple(headers))
    return RequestHead(request, length, persists, old, upgrade, expects, upgrade or method == "CONNECT")


def _body_length(length: str | None, coding: str | None, old: bool) -> int:
    if coding is not None:
        if length is not None:
            raise MessageError("wanted Content-Length or Transfer-Encoding, got both")
        if old or coding.lower() != "chunked":
            raise MessageError("wanted no Transfer-Encoding but chunked, and that in HTTP/1.1, got another")
        return CHUNKED
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise MessageError("wanted a number of at most 18 digits in Content-Length, got something else")
    return int(length)


def _target_of(method: str, target: str, host: str) -> str:
    """The path of a target that is not just a path; "" for CONNECT. Raises MessageError."""
    if not target or not target.isascii() or not target.isprintable() or "#" in target:
        raise MessageError("wanted a target of printable ASCII without a fragment, got something else")
    if method == "CONNECT":
        if target.lower() != host.lower() or not has_port(target):
            raise MessageError("wanted a host and a port as CONNECT's target, and the same in Host, got others")
        return ""
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise MessageError("wanted a path that begins with a slash as the target, got something else")
    if absolute[1].lower() != host.lower():
        raise MessageError("wanted the same host in target and Host, got two")
    path = absolute[2] or ""
    if not path and method == "OPTIONS":
        return "*"
    return path if path[:1] == "/" else f"/{path}"


def beginning_of(section: bytes | bytearray) -> tuple[str, str]:
    """What stands in the places of the method and the target of a head that can't be read, for a log: as
    far as they are within the bytes that it gets of both, and not escaped.
    """
    line = bytes(section[: SHOWN_METHOD + SHOWN_PATH]).decode("latin-1").lstrip("\r\n").partition("\n")[0]
    method, _, rest = line.rstrip("\r").partition(" ")
    return method, rest.partition(" ")[0]


def is_target(text: str) -> bool:
    """Whether this is in the form of a path with or without a query (RFC 9112, section 3.2.1).

    All printable ASCII is accepted but the fragment's sign: clients do not escape all that RFC 3986 wants escaped.
    """
    return text[:1] == "/" and text.isascii() and text.isprintable() and " " not in text and "#" not in text
