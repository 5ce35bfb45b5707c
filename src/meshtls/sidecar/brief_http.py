"""HTTP/1.1 with one request a connection, for probes and scrapes without mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial

from meshtls.observe.health import END_OF_REQUEST, LONGEST_REQUEST
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import close, linger

__all__ = ["BriefHttp"]

_SECONDS = 5.0
_MAX_CONNECTIONS = 64


class BriefHttp:
    """Answers in tasks of ``tasks``: ``answer`` is given the request's head, and returns the whole response."""

    def __init__(self, answer: Callable[[bytes], bytes], tasks: asyncio.TaskGroup, poller: Poller) -> None:
        self._answer = answer
        self._tasks = tasks
        self._poller = poller
        #: Oldest first.
        self._connections: dict[asyncio.Task[None], None] = {}

    def take(self, sock: socket.socket) -> None:
        """Answer on this connection. If there are too many, the oldest is closed: none can keep the others out."""
        if len(self._connections) >= _MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        task = self._tasks.create_task(self._serve(sock))
        self._connections[task] = None
        task.add_done_callback(partial(self._done, sock))

    def _done(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        """Also for a task that was cancelled before it began."""
        self._connections.pop(task, None)
        close(sock, self._poller)

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                if request := await _request(sock):
                    await loop.sock_sendall(sock, self._answer(request))
        await linger(sock, self._poller)


async def _request(sock: socket.socket) -> bytes:
    request = b""
    while END_OF_REQUEST not in request and len(request) < LONGEST_REQUEST:
        data = await asyncio.get_running_loop().sock_recv(sock, LONGEST_REQUEST)
        if not data:
            return b""
        request += data
    return request
