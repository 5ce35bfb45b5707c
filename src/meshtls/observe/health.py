"""Responses to probes: ``GET /live`` and ``GET /ready`` over HTTP/1.1, one request per connection. Pure."""

from __future__ import annotations

from collections.abc import Callable

from meshtls.observe.readiness import Readiness
from meshtls.printable import printable

__all__ = ["END_OF_REQUEST", "LONGEST_REQUEST", "answer_probe"]

LONGEST_REQUEST = 8192
END_OF_REQUEST = b"\r\n\r\n"
_HEAD = "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"


def answer_probe(request: bytes, readiness: Callable[[], Readiness]) -> bytes:
    """The whole response to a request's head."""
    method, _, rest = request.partition(b" ")
    status, text = _judge(method, rest.partition(b" ")[0].partition(b"?")[0], readiness)
    content = text.encode()
    return _HEAD.format(status, len(content)).encode() + (b"" if method == b"HEAD" else content)


def _judge(method: bytes, path: bytes, readiness: Callable[[], Readiness]) -> tuple[str, str]:
    if method not in (b"GET", b"HEAD"):
        return "405 Method Not Allowed", "wanted GET\n"
    if path == b"/live":
        return "200 OK", "live\n"
    if path != b"/ready":
        return "404 Not Found", "wanted /live or /ready\n"
    state = readiness()
    if not state.ready:
        return "503 Service Unavailable", f"{'waiting for' if state.waits else 'not ready:'} {printable(state.text)}\n"
    return "200 OK", f"ready; {printable(state.text)}\n" if state.text else "ready\n"
