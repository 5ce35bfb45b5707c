"""An ASGI scope as the HTTP request that policies judge, and back. Pure.

The app reads ``scope["path"]``, in which percent-encoded characters are decoded, slashes among them: what ``/a%2Fb``
is in a URL is ``/a/b`` to the app. Such a path is judged in both forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from meshtls.errors import RequestError
from meshtls.scalars import shown
from meshtls.wire.http import HttpRequest
from meshtls.wire.http_rules import NOT_JUDGED, is_method

__all__ = ["as_routed", "header", "http_of", "scope_for", "without_header"]

#: Characters that a path may have as they are (RFC 3986, section 3.3).
_PLAIN = "/!$&'()*+,:;=@[]"
#: Not judged, and not changed.
_NOT_JUDGED = frozenset(name.encode() for name in NOT_JUDGED)


def http_of(scope: Mapping[str, Any]) -> HttpRequest:
    """The request's head; a WebSocket's is that of the GET that asks for it. Raises RequestError: 400."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        raise RequestError(f"host: wanted one, got {len(hosts)}")
    headers = tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name not in _NOT_JUDGED
    )
    host = hosts[0].decode("latin-1") if hosts else ""
    method = scope.get("method", "GET")
    if not is_method(method):  # some frameworks raise its case
        raise RequestError(f"method: wanted one in capital letters, got {shown(method)}")
    return HttpRequest(method, host, _target(scope), headers)


def _target(scope: Mapping[str, Any]) -> str:
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else ""
    if raw is None or unquote(path) != scope["path"]:
        path = quote(
            scope["path"], safe=_PLAIN, errors="surrogatepass"
        )  # something before us changed what the app reads
    query: bytes = scope.get("query_string") or b""
    return f"{path}?{query.decode('latin-1')}" if query else path


def as_routed(target: str, normalize: Callable[[str], str]) -> str | None:
    """The path as the app reads it, where that is not the one of ``target``, which is normalized.

    Raises RequestError: 400.
    """
    path = target.partition("?")[0]
    if "%" not in path:
        return None
    routed = normalize(quote(unquote(path), safe=_PLAIN))
    return None if routed == path else routed


def scope_for(scope: MutableMapping[str, Any], before: HttpRequest, after: HttpRequest) -> MutableMapping[str, Any]:
    """The scope for the app: with the path, query and headers of ``after`` where they are not those of ``before``."""
    if after == before:
        return scope
    changed = dict(scope)
    if after.path != before.path:
        path, _, query = after.path.partition("?")
        changed |= {
            "raw_path": path.encode("latin-1", "replace"),
            "path": unquote(path),
            "query_string": query.encode("latin-1", "replace"),
        }
    if after.headers != before.headers:
        kept = [one for one in scope["headers"] if one[0] in _NOT_JUDGED]
        given = ((name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in after.headers)
        changed["headers"] = [*kept, *given]
    return changed


def without_header(http: HttpRequest, name: str) -> HttpRequest:
    headers = tuple(one for one in http.headers if one[0] != name)
    return http if len(headers) == len(http.headers) else msgspec.structs.replace(http, headers=headers)


def header(http: HttpRequest, name: str) -> str | None:
    """All values of a field, joined; None where it was not sent. Raises RequestError for an empty one."""
    values = [value for key, value in http.headers if key == name]
    if not values:
        return None
    if not all(values):
        raise RequestError(f"{name}: wanted a value, got {shown(values[0])}")
    return ",".join(values)
