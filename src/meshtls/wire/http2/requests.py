"""The head of an HTTP request: read strictly, and written anew for the app (RFC 9113, sections 8.2, 8.3, 8.5). Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from meshtls.memo import Memo
from meshtls.wire.http import HttpLimits, HttpRequest, Refuse
from meshtls.wire.http2.fields import (
    NAME,
    BlockWriter,
    Field,
    FieldDecoder,
    MalformedError,
    Text,
    is_value,
)
from meshtls.wire.http_rules import FRAMING, has_port, is_host, is_method, is_token, may_be_trailer

__all__ = [
    "RequestHead",
    "beginning_of",
    "check_trailers",
    "checked_fields",
    "content_length",
    "forward_block",
    "passed_trailers",
    "read_request",
]

_PSEUDO = {b":method", b":scheme", b":authority", b":path", b":protocol"}
_CONNECT = {b":method", b":authority"}
_COMMON = {b":method", b":scheme", b":path"}
_EXTENDED = _COMMON | {b":authority", b":protocol"}
_SCHEMES = (b"http", b"https")
#: Fields of one HTTP/1.1 connection (RFC 9113, section 8.2.2).
_PER_CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_PATH = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_GRPC = re.compile(r"application/grpc(?:[+;].*)?", re.IGNORECASE)
#: The longest name of a field whose check is remembered, and the longest field, of one connection.
_LONGEST_NAME, _LONGEST_REMEMBERED = 64, 256


class RequestHead:
    """One request's head.

    - ``request``: what is judged. An extended CONNECT (RFC 8441) is judged as the GET with Upgrade that it stands for.
    - ``scheme``, ``protocol``: pseudo-header fields that a request keeps; ``protocol`` is b"" if there was none.
    - ``length``: Content-Length, in bytes, if there is one.
    - ``connects``: after the heads, DATA alone may come (CONNECT).
    - ``trailers``: it says that it takes trailers (TE).
    - ``never``: names of fields that must not enter HPACK's tables.
    - ``grpc``: a gRPC call, which is refused in gRPC's own way.
    - ``refusal``: well formed, but not for an app.
    - ``written``: the block that the app got with the request ``written_for``: see ``forward_block``.
    """

    __slots__ = (
        "connects",
        "grpc",
        "length",
        "never",
        "protocol",
        "refusal",
        "request",
        "scheme",
        "trailers",
        "written",
        "written_for",
    )

    def __init__(self, request: HttpRequest, scheme: bytes, protocol: bytes) -> None:
        self.request = request
        self.scheme = scheme
        self.protocol = protocol
        self.connects = protocol != b"" or request.method == "CONNECT"
        self.length: int | None = None
        self.trailers = False
        self.never: frozenset[bytes] = frozenset()
        self.grpc = False
        self.refusal: Refuse | None = None
        self.written_for: HttpRequest | None = None
        self.written = b""


def read_request(fields: list[Field], decoder: FieldDecoder, limits: HttpLimits) -> RequestHead:
    """The head of these fields, which ``decoder`` read last. Raises MalformedError."""
    pseudo, plain = _parted(fields)
    method, scheme, path = pseudo.get(b":method", b""), pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    authority, protocol = pseudo.get(b":authority", b""), pseudo.get(b":protocol", b"")
    wanted = (_EXTENDED if b":protocol" in pseudo else _CONNECT) if method == b"CONNECT" else _COMMON
    if not wanted <= pseudo.keys() <= wanted | {b":authority"}:
        raise MalformedError(f"wanted a request with {_words(wanted)}, got {_words(pseudo)}")
    if wanted is not _CONNECT:
        _check(scheme in _SCHEMES, "wanted :scheme http or https", scheme)
        star = path == b"*" and method == b"OPTIONS"
        _check(star or _PATH.fullmatch(path) is not None, "wanted a :path from / on, of visible ASCII without #", path)
    if wanted is _EXTENDED:
        _check(is_token(protocol.decode("latin-1")), "wanted a name of a protocol in :protocol", protocol)
    _check(is_method(method.decode("latin-1")), "wanted a method in capital letters", method)

    headers: list[tuple[str, str]] = []
    cookies: list[str] = []
    host = length = content_type = None
    trailers = False
    for name, value in checked_fields(plain, decoder.texts):
        if name == "cookie":
            if not cookies:
                headers.append((name, ""))
            cookies.append(value)
        elif name == "host":
            _check(host is None, "wanted one Host, got another", value.encode("latin-1"))
            host = value
        elif name == "content-length":
            length = content_length(value, length)
        elif name == "te":
            trailers = True
        else:
            if name == "content-type":
                content_type = value
            headers.append((name, value))
    if cookies:
        headers[headers.index(("cookie", ""))] = ("cookie", "; ".join(cookies))

    _check(b":authority" not in pseudo or authority != b"", "wanted an :authority that is not empty", authority)
    target = authority.decode("latin-1") or host or ""
    _check(is_host(target), "wanted a host in :authority or Host, with or without a port", target.encode("latin-1"))
    if wanted is _CONNECT:
        _check(has_port(target), "wanted CONNECT to a host and a port", authority)
    judged = method.decode("ascii")
    if protocol:
        judged = "GET"
        # For the policies in lower case, as of HTTP/1.1: names of protocols have no case (RFC 9110, section 7.8).
        headers.append(("upgrade", protocol.decode("latin-1").lower()))
    request = HttpRequest(judged, target, path.decode("ascii"), tuple(headers))
    head = RequestHead(request, scheme, protocol)
    head.length, head.trailers, head.never = length, trailers, decoder.never
    head.grpc = content_type is not None and _GRPC.fullmatch(content_type) is not None
    if authority and host is not None and host.lower() != request.host.lower():
        head.refusal = Refuse(400, "wanted a Host that is the same as :authority, got another\n")
    else:
        head.refusal = _over(limits, decoder.size, len(fields), path, headers)
    return head


def _parted(fields: list[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    pseudo: dict[bytes, bytes] = {}
    at = 0
    for name, value in fields:
        if name[:1] != b":":
            break
        if name in pseudo or name not in _PSEUDO:
            raise MalformedError(f"wanted each of {_words(_PSEUDO)} at most once, got {name[:80]!r}")
        pseudo[name] = value
        at += 1
    return pseudo, fields[at:]


def _over(limits: HttpLimits, size: int, count: int, path: bytes, headers: list[tuple[str, str]]) -> Refuse | None:
    """Why the head exceeds a limit: ``size`` in bytes, and ``count`` of fields."""
    if len(path) > limits.uri_length:
        return Refuse(414, f"wanted a target of at most {limits.uri_length} bytes, got {len(path)}\n")
    if size > limits.header_bytes:
        return Refuse(431, f"wanted a head of at most {limits.header_bytes} bytes, got {size}\n")
    if count > limits.header_count:
        return Refuse(431, f"wanted a head of at most {limits.header_count} fields, got {count}\n")
    if not limits.underscore_names:
        for name, _ in headers:
            if "_" in name:
                return Refuse(400, f"wanted no underscore in the name of a field, got {name[:80]}\n")
    return None


def check_trailers(fields: list[Field], decoder: FieldDecoder, limits: HttpLimits) -> None:
    """Check a request's trailers, which no policy sees. Raises MalformedError."""
    if decoder.size > limits.trailer_bytes or len(fields) > limits.header_count:
        raise MalformedError(f"wanted trailers of at most {limits.trailer_bytes} bytes, got {decoder.size}")
    for name, _ in checked_fields(fields, decoder.texts):
        odd = "_" in name and not limits.underscore_names
        if odd or not may_be_trailer(name):
            raise MalformedError(f"wanted no {name} in trailers")


def passed_trailers(fields: list[Field], head: RequestHead) -> list[Field]:
    """The trailers that can't be taken for a field of the head that the app has."""
    sent = {name.encode("latin-1") for name, _ in head.request.headers}
    return [field for field in fields if field[0] not in sent]


def beginning_of(fields: list[Field]) -> tuple[str, str, str]:
    """Method, host and path of a request that can't be read, for a log: the first of each, not escaped."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        found.setdefault(name, value)
    host = found.get(b":authority", found.get(b"host", b""))
    method, path = found.get(b":method", b""), found.get(b":path", b"")
    return method.decode("latin-1"), host.decode("latin-1"), path.decode("latin-1")


def checked_fields(fields: list[Field], seen: Memo[Field, tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a head or of trailers, but for pseudo-header fields. Raises MalformedError.

    ``seen`` has those of the connection's earlier heads: most of the next one's are the same.
    """
    return [seen.get(field) or _checked_field(field, seen) for field in fields]


def _checked_field(field: Field, seen: Memo[Field, tuple[str, str]]) -> tuple[str, str]:
    name, value = field
    text = _name(name) if len(name) <= _LONGEST_NAME else _checked_name(name)
    if not is_value(value) or (text == "te" and value != b"trailers"):
        raise MalformedError(f"wanted a value of {text[:80]} that may be in HTTP/2, got {value[:80]!r}")
    found = text, value.decode("latin-1")
    return seen.keep(field, found) if len(name) + len(value) <= _LONGEST_REMEMBERED else found


def _checked_name(name: bytes) -> str:
    _check(NAME.fullmatch(name) is not None, "wanted a field's name in lower case after all pseudo-header fields", name)
    _check(name not in _PER_CONNECTION, "wanted no field of HTTP/1.1 connections", name)
    return name.decode("ascii")


_name = lru_cache(256)(_checked_name)


def content_length(value: str, before: int | None) -> int:
    """Raises MalformedError, also for a second one, though it be the same."""
    raw = value.encode("latin-1")
    _check(before is None and _LENGTH.fullmatch(raw) is not None, "wanted one Content-Length, in digits", raw)
    return int(value)


def forward_block(head: RequestHead, request: HttpRequest, writer: BlockWriter) -> bytes:
    """The head as ``request`` has it, for the app. Raises ValueError if it can't be written."""
    if request is head.written_for:
        return head.written
    pseudo: list[Text] = [(":method", "CONNECT" if head.protocol else request.method)]
    if head.protocol:
        pseudo.append((b":protocol", head.protocol))
    if head.scheme:
        pseudo.append((b":scheme", head.scheme))
    pseudo.append((":authority", request.host))
    if head.scheme:
        pseudo.append((":path", request.path))
    judged = head.request
    if request.path is not judged.path or request.method is not judged.method or request.host is not judged.host:
        _check_target(request, connect=not head.scheme)
    if request.headers is not judged.headers:
        _check_added(request.headers, judged.headers)
    fields: list[Text] = [one for one in request.headers if not head.protocol or one[0] != "upgrade"]
    if head.trailers:
        fields.append((b"te", b"trailers"))
    if head.length is not None:
        fields.append((b"content-length", b"%d" % head.length))
    head.written = writer.block(pseudo, fields, head.never)
    head.written_for = request
    return head.written


def _check_added(headers: tuple[tuple[str, str], ...], before: tuple[tuple[str, str], ...]) -> None:
    """Raises ValueError for a field that was added to those of the judged request, and that only we may write."""
    own = len(before)
    added = headers[own:] if headers[:own] == before else tuple(set(headers).difference(before))
    for name, _ in added:
        if name in FRAMING:
            raise ValueError(f"wanted no field that is of the connection, or frames the message, got {name}")


def _check_target(request: HttpRequest, *, connect: bool) -> None:
    path, method = request.path.encode("ascii"), request.method.encode("ascii")
    good = is_host(request.host) and is_method(request.method) and (connect == (method == b"CONNECT"))
    if not good or not (connect or path == b"*" or _PATH.fullmatch(path)):
        raise ValueError(f"wanted a request that can be written, got {request.method} {request.host} {request.path}")


def _check(kept: bool, rule: str, got: bytes) -> None:
    if not kept:
        raise MalformedError(f"{rule}, got {got[:80]!r}")


def _words(names: set[bytes] | dict[bytes, bytes]) -> str:
    return ", ".join(name.decode("ascii", "backslashreplace") for name in sorted(names)) or "none"
