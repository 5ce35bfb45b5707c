"""``GET /live`` and ``GET /ready`` over HTTP/1.1, one request a connection, for probes without mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial

from meshtls.observe.health import END_OF_REQUEST, LONGEST_REQUEST, answer_probe
from meshtls.observe.readiness import Readiness
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import close, linger

__all__ = ["Health"]

_SECONDS = 5.0
_MAX_PROBES = 64


class Health:
    """Answers probes in tasks of ``tasks``."""

    def __init__(self, readiness: Callable[[], Readiness], tasks: asyncio.TaskGroup, poller: Poller) -> None:
        self._readiness = readiness
        self._tasks = tasks
        self._poller = poller
        #: Oldest first.
        self._probes: dict[asyncio.Task[None], None] = {}

    def take(self, sock: socket.socket) -> None:
        """Answer on this connection. If there are too many, the oldest is closed: none can keep the others out."""
        if len(self._probes) >= _MAX_PROBES:
            oldest = next(iter(self._probes))
            del self._probes[oldest]
            oldest.cancel()
        task = self._tasks.create_task(self._answer(sock))
        self._probes[task] = None
        task.add_done_callback(partial(self._done, sock))

    def _done(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        """Also for a task that was cancelled before it began."""
        self._probes.pop(task, None)
        close(sock, self._poller)

    async def _answer(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                if request := await _request(sock):
                    await loop.sock_sendall(sock, answer_probe(request, self._readiness))
        await linger(sock, self._poller)


async def _request(sock: socket.socket) -> bytes:
    request = b""
    while END_OF_REQUEST not in request and len(request) < LONGEST_REQUEST:
        data = await asyncio.get_running_loop().sock_recv(sock, LONGEST_REQUEST)
        if not data:
            return b""
        request += data
    return request
