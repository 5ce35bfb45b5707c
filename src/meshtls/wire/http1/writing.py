"""The bytes that we send: requests for the app, and answers in its place. Pure.

No text from elsewhere can add a line: what is written is checked here, whoever made it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from meshtls.wire.http import HttpRequest, Refuse
from meshtls.wire.http1.fields import MessageError, named
from meshtls.wire.http1.request import CHUNKED, RequestHead, is_target
from meshtls.wire.http_rules import FRAMING, is_host, is_method

__all__ = ["answer_bytes", "field_lines", "request_bytes", "trailer_bytes"]

_NOT_IN_VALUES = re.compile(r"[\0-\x08\x0a-\x1f\x7f\u0100-\U0010ffff]")
_IN_VALUES = dict.fromkeys((*range(9), *range(10, 32), 127), "?")
_OTHERWISE, _LOWEST, _HIGHEST = 500, 200, 599
_NO_BODY = (204, 304)


def request_bytes(head: RequestHead, request: HttpRequest) -> bytes:
    """A request's head for the app: ``request`` with the framing of ``head``, which was judged.

    Raises MessageError with status 500 if the ruling's request can't be written.
    """
    if request is head.written_for:
        return head.written
    judged = head.request
    if request is not judged:
        _check_start(judged, request)
    headers = request.headers
    target = request.path or request.host
    host = request.host
    length = head.length
    if length > 0:
        framing = f"\r\ncontent-length: {length}"
    elif length == CHUNKED:
        framing = "\r\ntransfer-encoding: chunked"
    elif judged.method in ("POST", "PUT", "PATCH"):
        framing = "\r\ncontent-length: 0"
    else:
        framing = ""
    if head.old:
        version = "HTTP/1.0"
        framing += "\r\nconnection: keep-alive" if head.persists else "\r\nconnection: close"
    else:
        version = "HTTP/1.1"
        if head.upgrade:
            headers = tuple([one for one in headers if one[0] != "upgrade"])
            framing += "\r\nconnection: upgrade\r\nupgrade: websocket"
        elif not head.persists:
            framing += "\r\nconnection: close"
    lines = "".join([f"\r\n{name}: {value}" for name, value in headers])
    text = f"{request.method} {target} {version}\r\nhost: {host}{lines}{framing}\r\n\r\n"
    if headers is not judged.headers:
        own = len(judged.headers)
        _check_fields(headers[own:] if headers[:own] == judged.headers else headers)
    head.written = text.encode("latin-1")
    head.written_for = request
    return head.written


def _check_start(judged: HttpRequest, request: HttpRequest) -> None:
    """Raises MessageError unless the start line can be written: as it was judged, or changed into a valid one."""
    method, path, host = request.method, request.path, request.host
    if path != judged.path and not is_target(path):
        raise MessageError("the ruling's request has no valid path", 500)
    if host != judged.host and not is_host(host):
        raise MessageError("the ruling's request has no valid host", 500)
    tunnel = "CONNECT" in (method, judged.method)
    if method != judged.method and (tunnel or not is_method(method) or path == "*"):
        raise MessageError("the ruling's request has no valid method", 500)
    if tunnel and path:
        raise MessageError("the ruling's request has a path, and CONNECT has none", 500)


def _check_fields(fields: tuple[tuple[str, str], ...]) -> None:
    """Raises MessageError unless the fields can be written, each as one line and none about the connection."""
    for name, value in fields:
        if not _may_name(name):
            raise MessageError("the ruling's request has a field that is not in lower case, or not its own", 500)
        if not (value.isascii() and value.isprintable()) and _NOT_IN_VALUES.search(value):
            raise MessageError("the ruling's request has a field's value that can't be written", 500)


def trailer_bytes(trailers: list[tuple[str, str]]) -> bytes:
    """The end of a chunked body."""
    return "".join(["0\r\n", *(f"{name}: {value}\r\n" for name, value in trailers), "\r\n"]).encode("latin-1")


def field_lines(fields: tuple[tuple[str, str], ...]) -> bytes:
    """Lines for the head of a response. What frames it, or can't be written, is left out or becomes "?"."""
    return _lines([one for one in fields if _may_name(one[0])]).encode("latin-1", "replace")


def _lines(fields: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{name}: {value.translate(_IN_VALUES)}\r\n" for name, value in fields)


def answer_bytes(refuse: Refuse, *, method: str = "GET", closes: bool = True, old: bool = False) -> bytes:
    """A whole response. A control character in a header's value becomes "?"; a header that can't be is left out.

    ``closes`` says that the connection ends with it, and ``old`` that the client speaks HTTP/1.0.
    """
    status = refuse.status if _LOWEST <= refuse.status <= _HIGHEST else _OTHERWISE
    body = refuse.text.encode("utf-8", "replace")
    fields = [(name.lower(), value) for name, value in refuse.headers if _may_name(name.lower())]
    if status in _NO_BODY:
        body = b""
    else:
        if not any(name == "content-type" for name, _ in fields):
            fields.append(("content-type", "text/plain; charset=utf-8"))
        fields.append(("content-length", str(len(body))))
    if closes:
        fields.append(("connection", "close"))
    elif old:
        fields.append(("connection", "keep-alive"))
    head = f"HTTP/1.1 {status} {_phrase(status)}\r\n{_lines(fields)}\r\n".encode("latin-1", "replace")
    return head if method == "HEAD" else head + body


def _may_name(name: str) -> bool:
    try:
        return named(name)[0] == name and name not in FRAMING
    except MessageError:
        return False


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
