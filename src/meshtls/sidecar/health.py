"""``GET /live`` and ``GET /ready`` over HTTP/1.1, one request a connection, for probes that know nothing of us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from meshtls.sidecar.sockets import linger

__all__ = ["Health"]

_SECONDS = 5.0
_MAX_REQUEST = 8192
_MAX_PROBES = 64
_HEAD = "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"


class Health:
    """Answers probes in tasks of ``tasks``. ``awaited`` says in words what readiness waits for, None when nothing."""

    def __init__(self, awaited: Callable[[], str | None], tasks: asyncio.TaskGroup) -> None:
        self._awaited = awaited
        self._tasks = tasks
        self._probes = 0

    def take(self, sock: socket.socket) -> None:
        """Answer on this connection."""
        if self._probes >= _MAX_PROBES:
            sock.close()
            return
        self._probes += 1
        self._tasks.create_task(self._answer(sock))

    def respond(self, request: bytes) -> tuple[str, str]:
        """The status line and the text for a request's head."""
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return "405 Method Not Allowed", "wanted GET\n"
        if path == b"/live":
            return "200 OK", "live\n"
        if path != b"/ready":
            return "404 Not Found", "wanted /live or /ready\n"
        awaited = self._awaited()
        return ("200 OK", "ready\n") if awaited is None else ("503 Service Unavailable", f"waiting for {awaited}\n")

    async def _answer(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    if request := await _request(sock):
                        status, text = self.respond(request)
                        await loop.sock_sendall(sock, _reply(status, text, body=not request.startswith(b"HEAD")))
        finally:
            self._probes -= 1
            await linger(sock)


async def _request(sock: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and len(request) < _MAX_REQUEST:
        data = await asyncio.get_running_loop().sock_recv(sock, _MAX_REQUEST)
        if not data:
            return b""
        request += data
    return request


def _reply(status: str, text: str, *, body: bool) -> bytes:
    content = text.encode()
    return _HEAD.format(status, len(content)).encode() + (content if body else b"")
