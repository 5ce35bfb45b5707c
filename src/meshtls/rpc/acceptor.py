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

#: Work on new connections before the event loop runs other callbacks: 64 that are served, or 1024 that are refused. A
#: refusal takes some 50 µs, so a flood that is over its limit does not keep the connections behind it in the backlog.
_WORK, _SERVED, _REFUSED = 1024, 16, 1
#: Seconds to pause accepting after the machine ran out of resources for a connection.
PAUSE = 0.1
_GONE = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM}


class Acceptor:
    """Calls ``take`` with each non-blocking connection and its address, and ``stuck`` with an error. Close it.

    ``take`` returns whether it serves the connection; otherwise it has closed it.
    """

    def __init__(
        self,
        listener: socket.socket,
        take: Callable[[socket.socket, Any], bool],
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
        work = _WORK
        while work > 0:
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    work -= _REFUSED
                    continue
                self._stuck(error)
                self._loop.remove_reader(self._listener)
                self._retry = self._loop.call_later(PAUSE, self._listen)
                return
            sock.setblocking(False)
            work -= _SERVED if self._take(sock, address) else _REFUSED
