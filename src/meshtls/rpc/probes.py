"""A listener for HTTP probes: one short request per connection; at the limit the oldest connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from meshtls.logs import logger
from meshtls.observe.health import END_OF_REQUEST, LONGEST_REQUEST
from meshtls.rpc.acceptor import Acceptor
from meshtls.rpc.shedding import CountedLog

__all__ = ["MOST_PROBES", "serve_probes"]

MOST_PROBES = 64
_SECONDS = 5.0

log = logger("meshtls.rpc")


@asynccontextmanager
async def serve_probes(listener: socket.socket, answer: Callable[[bytes], bytes]) -> AsyncIterator[None]:
    """Respond to each request on ``listener``, which listens already, while the body runs."""
    probes = _Probes(answer)
    acceptor = Acceptor(listener, probes.take, probes.stuck)
    try:
        yield
    finally:
        acceptor.close()
        await probes.close()


class _Probes:
    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._log = CountedLog(log)
        #: Oldest first.
        self._tasks: dict[asyncio.Task[None], None] = {}

    def take(self, sock: socket.socket, address: Any) -> bool:
        if len(self._tasks) >= MOST_PROBES:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._serve(sock))
        self._tasks[task] = None
        # A task that is cancelled before it has started closes nothing.
        task.add_done_callback(partial(self._done, sock))
        return True

    def stuck(self, error: OSError) -> None:
        self._log.warning(
            "stuck", f"health listener: no connection: {errno.errorcode.get(error.errno or 0, str(error))}"
        )

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        sock.close()

    async def _serve(self, sock: socket.socket) -> None:
        loop, request = asyncio.get_running_loop(), b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while END_OF_REQUEST not in request:
                    data = await loop.sock_recv(sock, LONGEST_REQUEST)
                    request += data
                    if not data or len(request) > LONGEST_REQUEST:
                        return
                await loop.sock_sendall(sock, self._answer(request))
