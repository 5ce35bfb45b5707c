"""The response to a scrape over HTTP/1.1, one request a connection. Pure."""

from __future__ import annotations

from collections.abc import Callable

from meshtls.observe.metrics.exposition import Scrape

__all__ = ["SCRAPE_PATHS", "answer_scrape"]

#: Ours, and that of Envoy, which dashboards and probes of other meshes ask for.
SCRAPE_PATHS = ("/metrics", "/stats/prometheus")
_HEAD = "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
_PLAIN = "text/plain; charset=utf-8"


def answer_scrape(request: bytes, scrape: Callable[[str], Scrape]) -> bytes:
    """The whole response to a request's head. ``scrape`` is given the request's Accept header."""
    lines = request.split(b"\r\n")
    method, _, rest = lines[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    if method not in (b"GET", b"HEAD"):
        status, answer = "405 Method Not Allowed", Scrape(_PLAIN, b"wanted GET\n")
    elif path not in SCRAPE_PATHS:
        status, answer = "404 Not Found", Scrape(_PLAIN, f"wanted {' or '.join(SCRAPE_PATHS)}\n".encode())
    else:
        # All Accept fields are one list (RFC 9110, section 5.3).
        fields = (line.partition(b":") for line in lines[1:])
        accept = ",".join(value.decode("latin-1").strip() for name, _, value in fields if name.lower() == b"accept")
        status, answer = "200 OK", scrape(accept)
    head = _HEAD.format(status, answer.content_type, len(answer.content)).encode()
    return head + (b"" if method == b"HEAD" else answer.content)
