"""Listening sockets: a Unix socket that replaces only a stale one, and a TCP socket without Nagle's algorithm."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from meshtls.errors import ConfigError
from meshtls.port_holder import bind_reason

__all__ = ["tcp_listener", "unix_listener"]

_TCP_BACKLOG = 512
# A Unix socket with a full backlog refuses at once, and a whole mesh may connect at the same moment.
_UNIX_BACKLOG = 1024


@contextlib.contextmanager
def tcp_listener(host: str, port: int, *, name: str = "", backlog: int = _TCP_BACKLOG) -> Iterator[socket.socket]:
    """A non-blocking listener; port 0 means any free port. ``name`` is its own in messages. Raises ConfigError."""
    wanted = f"{name + ': ' if name else ''}wanted to listen on {host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=backlog)
    except UnicodeError as error:  # a name that no resolver takes
        raise ConfigError(f"{wanted}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{wanted}: {bind_reason(error, host, port)}") from error
    with listener:
        listener.setblocking(False)
        # Accepted connections inherit it. asyncio sets it only where the socket says that its protocol is TCP, which an
        # accepted one does not; and Nagle's algorithm would delay the end of a response by up to 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


@contextlib.contextmanager
def unix_listener(path: Path, mode: int) -> Iterator[socket.socket]:
    """A non-blocking listener at ``path``, which gets this mode before it accepts connections.

    The path is removed at the end. Raises ConfigError if there is a file at ``path`` that is not a socket, or a socket
    on which another process listens.
    """
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
            path.chmod(mode)
            listener.listen(_UNIX_BACKLOG)
        except OSError as error:
            raise ConfigError(f"{path}: could not make the socket: {error.strerror or error}") from error
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
    if _is_listening(path):
        raise ConfigError(f"{path}: another process listens there; stop it or give another path")
    path.unlink(missing_ok=True)


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # The queue is full, or we have no permission: a process may well be listening.
            return True
    return True
