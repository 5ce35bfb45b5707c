"""Accepts connections on any event loop, and recovers when the machine runs out of descriptors or memory.

At the descriptor limit, asyncio's own accept loop logs a traceback for each slot of its backlog; and it creates a
transport and protocol before the peer's address is known.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

__all__ = ["Acceptor"]

#: Connections that are accepted before the event loop runs other callbacks.
_AT_ONCE = 64
#: Seconds to pause accepting after the machine ran out of resources for a connection.
PAUSE = 0.1
_GONE = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM}


class Acceptor:
    """Calls ``take`` with each non-blocking connection and its address, and ``stuck`` with an error. Close it."""

    def __init__(
        self,
        listener: socket.socket,
        take: Callable[[socket.socket, Any], None],
        stuck: Callable[[OSError], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._take = take
        self._stuck = stuck
        self._retry: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener)

    def _listen(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._stuck(error)
                self._loop.remove_reader(self._listener)
                self._retry = self._loop.call_later(PAUSE, self._listen)
                return
            sock.setblocking(False)
            self._take(sock, address)
