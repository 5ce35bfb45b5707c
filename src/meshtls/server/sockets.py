"""The server's listening sockets, bound before anything is promised. Raises ConfigError for what can't be bound."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from meshtls.errors import ConfigError

__all__ = ["admin_socket", "tcp_socket"]

_BACKLOG = 512


@contextlib.contextmanager
def tcp_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A non-blocking listener; port 0 takes a free one."""
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


@contextlib.contextmanager
def admin_socket(path: Path) -> Iterator[socket.socket]:
    """A non-blocking Unix listener, 0600 before it listens; the path is free again afterwards."""
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise ConfigError(f"{path}: could not make the admin socket: {error.strerror or error}") from error
        listener.setblocking(False)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: wanted a free path or a dead socket, found another file; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) == 0:
            raise ConfigError(f"{path}: another server answers there; stop it or give another path")
    path.unlink(missing_ok=True)
