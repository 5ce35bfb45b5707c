"""A listener for HTTP probes: one short request per connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshtls.counted_log import CountedLog
from meshtls.logs import logger
from meshtls.observe.health import END_OF_REQUEST, LONGEST_REQUEST
from meshtls.rpc.brief_connections import serve_briefly

__all__ = ["serve_probes"]

_SECONDS = 5.0

log = logger("meshtls.rpc")


@asynccontextmanager
async def serve_probes(listener: socket.socket, answer: Callable[[bytes], bytes]) -> AsyncIterator[None]:
    """Respond to each request on ``listener``, which listens already, while the body runs."""

    async def respond(sock: socket.socket) -> None:
        loop, request = asyncio.get_running_loop(), b""
        while END_OF_REQUEST not in request:
            data = await loop.sock_recv(sock, LONGEST_REQUEST)
            request += data
            if not data or len(request) > LONGEST_REQUEST:
                return
        await loop.sock_sendall(sock, answer(request))

    async with serve_briefly("health", listener, respond, _SECONDS, CountedLog(log)):
        yield
