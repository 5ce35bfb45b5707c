"""An ASGI scope as the HTTP request that policies judge, and back. Pure.

A scope is what a server made of a request: some servers leave blanks around values, pass on fields that are only for
the connection, or accept a host that is none. So its request is written as bytes again, and read as strictly as a
sidecar reads one, by the same rules.

The app reads ``scope["path"]``, in which percent-encoded characters are decoded, slashes among them: what ``/a%2Fb``
is in a URL is ``/a/b`` to the app. Frameworks route by what follows ``scope["root_path"]`` in it. Such a path is judged
in each of its forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from meshtls.errors import RequestError
from meshtls.scalars import shown
from meshtls.wire.http import HttpLimits, HttpRequest
from meshtls.wire.http1.fields import MessageError, named
from meshtls.wire.http1.request import request_of
from meshtls.wire.http_rules import NOT_JUDGED, is_method, spellings

__all__ = ["header", "http_of", "paths_read", "roots_of", "scope_for", "without_header"]

#: Characters that a path may have as they are (RFC 3986, section 3.3).
_PLAIN = "/!$&'()*+,:;=@[]"
#: Fields of the connection or of the body's framing: not changed in the scope.
_OF_THE_SERVER = NOT_JUDGED | {"host", "upgrade", "expect"}
_OLD = ("1.0", "1.1")
_UPGRADE = ("upgrade", "websocket")
#: Sizes are limited by the server.
_STRICT = HttpLimits(header_bytes=1 << 30, header_count=1 << 20, uri_length=1 << 30)
_WITH_UNDERSCORES = msgspec.structs.replace(_STRICT, underscore_names=True)


def http_of(scope: Mapping[str, Any], *, underscore_names: bool = False) -> HttpRequest:
    """The request's head; a WebSocket's is that of the GET that asks for it. Raises MessageError, with a status."""
    method = scope.get("method", "GET")
    if not is_method(method):  # some frameworks raise its case
        raise MessageError(f"method: wanted one in capital letters, got {shown(method)}")
    version = scope.get("http_version", "1.1")
    lines = [f"{method} {_target(scope)} HTTP/{version if version in _OLD else '1.1'}".encode("latin-1")]
    more: list[tuple[str, str]] = []
    for raw, value in scope["headers"]:
        if _name(raw) == "expect" and version not in _OLD:  # of HTTP/2 and HTTP/3 it is a field like any other
            more.append(("expect", value.strip(b" \t").decode("latin-1")))
        else:
            lines.append(b"%b:%b" % (raw, value))
    section = b"\r\n".join(lines)
    if section.count(b"\r\n") != len(lines) - 1:
        raise MessageError("wanted fields of one line each, got others")
    head = request_of(section, _WITH_UNDERSCORES if underscore_names else _STRICT, {})
    if scope["type"] == "websocket" and not head.upgrade:  # of HTTP/2, or by the server's own rules
        more.append(_UPGRADE)
    if not more:
        return head.request
    return msgspec.structs.replace(head.request, headers=(*head.request.headers, *more))


@lru_cache(maxsize=1024)
def _name(raw: bytes) -> str:
    """In lower case. Raises MessageError."""
    return named(raw.decode("latin-1"))[0]


def _target(scope: Mapping[str, Any]) -> str:
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else ""
    if raw is None or unquote(path) != scope["path"]:
        path = quote(
            scope["path"], safe=_PLAIN, errors="surrogatepass"
        )  # something before us changed what the app reads
    query: bytes = scope.get("query_string") or b""
    return f"{path}?{query.decode('latin-1')}" if query else path


def roots_of(scope: Mapping[str, Any], app: object) -> frozenset[str]:
    """The prefixes that the app may cut off a path before it routes by it.

    They are those of the server and of what the middleware is mounted in, and the one of ``FastAPI(root_path=...)``,
    which puts it into the scope itself. Starlette keeps the server's beside its own.
    """
    found = (scope.get("root_path"), scope.get("app_root_path"), getattr(app, "root_path", None))
    return frozenset(root for root in found if root and isinstance(root, str))


def paths_read(target: str, roots: Iterable[str], normalize: Callable[[str], str]) -> tuple[str, ...]:
    """The paths by which an app may route, where they are not the one of ``target``, which is normalized.

    An app may use the path as ASGI decodes it, with its dot segments or without, and the whole one or what follows a
    root: Starlette cuts a root off at a segment's end, Django wherever it ends, and Litestar wherever it stands. Raises
    RequestError: 400.
    """
    path = target.partition("?")[0]
    roots = tuple(roots)
    if "%" not in path and not roots:
        return ()
    decoded = unquote(path)
    below = [decoded.partition(root)[2] for root in roots if root in decoded]
    found: dict[str, None] = {}
    for one in (decoded, *(one if one.startswith("/") else f"/{one}" for one in below)):
        read = quote(one, safe=_PLAIN)
        found |= {read: None, normalize(read): None}
    found.pop(path, None)
    return tuple(found)


def scope_for(scope: MutableMapping[str, Any], http: HttpRequest) -> MutableMapping[str, Any]:
    """The scope for the app: with the path, query and headers of ``http`` where the scope has others."""
    changed: dict[str, Any] = {}
    if http.path and http.path != _target(scope):  # CONNECT has none
        path, _, query = http.path.partition("?")
        changed = {
            "raw_path": path.encode("latin-1", "replace"),
            "path": unquote(path),
            "query_string": query.encode("latin-1", "replace"),
        }
    kept: list[tuple[bytes, bytes]] = []
    came: list[tuple[bytes, bytes]] = []
    for name, value in scope["headers"]:
        (kept if _name(name) in _OF_THE_SERVER else came).append((name, value))
    given = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in http.headers
        if name not in _OF_THE_SERVER
    ]
    if given != came:
        changed["headers"] = kept + given
    return {**scope, **changed} if changed else scope


def without_header(http: HttpRequest, name: str) -> HttpRequest:
    """Without the field ``name``, and what WSGI takes for it."""
    names = spellings(name)
    headers = tuple(one for one in http.headers if one[0] not in names)
    return http if len(headers) == len(http.headers) else msgspec.structs.replace(http, headers=headers)


def header(http: HttpRequest, name: str) -> str | None:
    """All values of a field, joined; None where it was not sent. Raises RequestError for an empty one."""
    values = [value for key, value in http.headers if key == name]
    if not values:
        return None
    if not all(values):
        raise RequestError(f"{name}: wanted a value, got {shown(values[0])}")
    return ",".join(values)
