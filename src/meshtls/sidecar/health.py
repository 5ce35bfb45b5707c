"""``GET /live`` and ``GET /ready`` over HTTP/1.1, one request a connection, for probes that know nothing of us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from meshtls.observe.health import END_OF_REQUEST, LONGEST_REQUEST, answer_probe
from meshtls.observe.readiness import Readiness
from meshtls.sidecar.sockets import linger

__all__ = ["Health"]

_SECONDS = 5.0
_MAX_PROBES = 64


class Health:
    """Answers probes in tasks of ``tasks``."""

    def __init__(self, readiness: Callable[[], Readiness], tasks: asyncio.TaskGroup) -> None:
        self._readiness = readiness
        self._tasks = tasks
        self._probes = 0

    def take(self, sock: socket.socket) -> None:
        """Answer on this connection."""
        if self._probes >= _MAX_PROBES:
            sock.close()
            return
        self._probes += 1
        self._tasks.create_task(self._answer(sock))

    async def _answer(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    if request := await _request(sock):
                        await loop.sock_sendall(sock, answer_probe(request, self._readiness))
        finally:
            self._probes -= 1
            await linger(sock)


async def _request(sock: socket.socket) -> bytes:
    request = b""
    while END_OF_REQUEST not in request and len(request) < LONGEST_REQUEST:
        data = await asyncio.get_running_loop().sock_recv(sock, LONGEST_REQUEST)
        if not data:
            return b""
        request += data
    return request
