"""Where the phases before the relay wait for a socket; the relay itself does not (see ``relay.py``, ``ends.py``).

On our poller, and not on the loop's ``sock_recv`` and the like: those cost 20 µs and two system calls a wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial

from meshtls.sidecar.poller import poller

__all__ = ["CHUNK", "either_readable", "readable", "ready", "receive", "send_all", "writable"]

#: Bytes that one read takes at most before the relay begins.
CHUNK = 1 << 14


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to read or to accept. Cancelled, it loses nothing."""
    await ready(sock, read=True)


async def writable(sock: socket.socket) -> None:
    """Wait until there is room to send."""
    await ready(sock, write=True)


async def ready(sock: socket.socket, *, read: bool = False, write: bool = False) -> None:
    """Wait until it is one of the two; for ever where neither is wanted."""
    found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watcher, done = poller(), partial(_set_done, found)
    watcher.watch(sock, done if read else None, done if write else None)
    try:
        await found
    finally:
        watcher.watch(sock, None, None)


async def either_readable(one: socket.socket, other: socket.socket) -> None:
    """Wait until there is something to read from at least one of the two."""
    found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watcher, done = poller(), partial(_set_done, found)
    for sock in (one, other):
        watcher.watch(sock, done, None)
    try:
        await found
    finally:
        for sock in (one, other):
            watcher.watch(sock, None, None)


async def receive(sock: socket.socket) -> bytes:
    """Wait for bytes, CHUNK at most; b"" at the end. Raises OSError where the connection broke."""
    while True:
        await readable(sock)
        with contextlib.suppress(BlockingIOError, InterruptedError):
            return sock.recv(CHUNK)


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Send, and wait for room as long as there is none. Raises OSError where the connection broke."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except (BlockingIOError, InterruptedError):
            await writable(sock)


def _set_done(found: asyncio.Future[None]) -> None:
    if not found.done():
        found.set_result(None)
