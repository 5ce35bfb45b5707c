"""The server's TCP listeners, bound before anything is promised."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from meshtls.errors import ConfigError

__all__ = ["tcp_socket"]

_BACKLOG = 512


@contextlib.contextmanager
def tcp_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A non-blocking listener; port 0 takes a free one. Raises ConfigError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)
        raise ConfigError(f"{host}:{port}: could not listen there: {why}") from error
    with listener:
        listener.setblocking(False)
        # Inherited by what it accepts, where asyncio sees no protocol number and leaves Nagle on: that holds the end of
        # an answer back for 40 ms, until the other side acknowledges its beginning.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener
