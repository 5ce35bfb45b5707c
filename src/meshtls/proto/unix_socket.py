"""A Unix socket's listener, which takes the place of a dead one and of nothing else."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from meshtls.errors import ConfigError

__all__ = ["bound"]

# A Unix socket with a full queue refuses at once, and a whole mesh may come at the same moment.
_BACKLOG = 1024


@contextlib.contextmanager
def bound(path: Path, mode: int) -> Iterator[socket.socket]:
    """A non-blocking listener at ``path``, which has this mode before anybody can connect.

    The path is free again afterwards. Raises ConfigError where something stands there that is no socket or that
    someone answers on.
    """
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        _listen(listener, path, mode)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _listen(listener: socket.socket, path: Path, mode: int) -> None:
    try:
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ConfigError(f"{path}: could not make the socket: {error.strerror or error}") from error
    listener.setblocking(False)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: wanted a free path or a dead socket, found another file; move it away")
    if _answers(path):
        raise ConfigError(f"{path}: another process listens there; stop it or give another path")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A full queue, or no permission: someone may well be there.
            return True
    return True
