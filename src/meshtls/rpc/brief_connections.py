"""A listener whose connections each have one answer, which may be HTTP's: they are few, and none lasts long.

Clients are anonymous, and known by their address, or on a Unix socket by their uid. ``rpc.admission`` bounds their
connections and how fast each may open new ones. At the limit the oldest one is closed, of the address that has most of
them: a client that opens many displaces itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from meshtls.counted_log import CountedLog
from meshtls.rpc.acceptor import Acceptor
from meshtls.rpc.admission import Admission, CallerBudgets, address_caller
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.peer_credentials import credentials_of
from meshtls.rpc.shedding import Refusal

__all__ = ["HANDSHAKE_LIMITS", "MOST_CONNECTIONS", "PLAINTEXT_LIMITS", "closing_head", "serve_briefly"]

MOST_CONNECTIONS = 64
#: Of these, half are for clients without identity (rpc.admission), and here are no others. A new connection is cheap
#: without TLS, and a reader of the transparency log opens one for each tile.
PLAINTEXT_LIMITS = ListenerLimits(
    connections=2 * MOST_CONNECTIONS, connections_per_caller=MOST_CONNECTIONS, connections_per_second=1000.0
)
#: Where each new connection costs a handshake.
HANDSHAKE_LIMITS = ListenerLimits(
    connections=2 * MOST_CONNECTIONS, connections_per_caller=MOST_CONNECTIONS // 2, connections_per_second=20.0
)
_REASONS = {
    200: "OK",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def closing_head(status: int, fields: Iterable[tuple[str, object]]) -> bytes:
    """The head of an HTTP/1.1 response on a connection that closes after it."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


@asynccontextmanager
async def serve_briefly(
    name: str,
    listener: socket.socket,
    answer: Callable[[socket.socket], Awaitable[None]],
    seconds: float,
    log: CountedLog,
    limits: ListenerLimits = PLAINTEXT_LIMITS,
) -> AsyncIterator[None]:
    """Call ``answer`` with each connection on ``listener``, which listens already and does not block, while the body
    runs. ``answer`` has so many seconds, and may raise OSError; the connection is closed afterwards. ``name`` is the
    listener's in messages.
    """
    connections = _Connections(name, answer, seconds, log, limits)
    acceptor = Acceptor(listener, connections.take, connections.stuck)
    try:
        yield
    finally:
        acceptor.close()
        await connections.close()


class _Connection:
    """One connection, as a member of the admission; ``task`` serves it."""

    busy = False
    proven = False
    caller: CallerBudgets
    task: asyncio.Task[None]

    def __init__(self, admission: Admission, sock: socket.socket) -> None:
        self._admission = admission
        self.sock = sock

    def evict(self, refusal: Refusal) -> None:
        self._admission.leave(self)
        self.task.cancel()

    def done(self, task: asyncio.Task[None]) -> None:
        self._admission.leave(self)
        self.sock.close()  # a task that is cancelled before it has started closes nothing


class _Connections:
    """The connections that are open now."""

    def __init__(
        self,
        name: str,
        answer: Callable[[socket.socket], Awaitable[None]],
        seconds: float,
        log: CountedLog,
        limits: ListenerLimits,
    ) -> None:
        self._name, self._answer, self._seconds, self._log = name, answer, seconds, log
        self._admission = Admission(limits)
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, sock: socket.socket, address: Any) -> bool:
        loop = asyncio.get_running_loop()
        connection = _Connection(self._admission, sock)
        # The address of a Unix socket's client is empty.
        local = sock.family is socket.AF_UNIX
        caller = f"uid {credentials_of(sock).uid}" if local else address_caller(address[0])
        refusal = self._admission.admit(caller, connection, loop.time())
        if refusal is not None:
            self._log.warning(refusal, f"{self._name} listener: refused a connection: {refusal.value}")
            sock.close()
            return False
        connection.task = loop.create_task(self._serve(sock))
        self._tasks.add(connection.task)
        connection.task.add_done_callback(self._tasks.discard)
        connection.task.add_done_callback(connection.done)
        return True

    def stuck(self, error: OSError) -> None:
        reason = errno.errorcode.get(error.errno or 0, str(error))
        self._log.warning("stuck", f"{self._name} listener: no connection: {reason}")

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._answer(sock)
