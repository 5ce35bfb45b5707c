"""A process of this machine, held by its ``/proc`` directory: a descriptor that stays that process's for ever.

A number alone would not do: the process may end and its number go to another, which would then be taken for it. What
is read through the directory is of the process that had it when it was opened, or nothing.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Protocol

from meshtls.errors import AccessError
from meshtls.proto.peer_credentials import credentials_of

__all__ = ["ProcessDirectory", "ProcessFiles", "connector_runs"]

# Of asm-generic/socket.h, from Linux 6.5 on; the socket module has no name for it.
_SO_PEERPIDFD = 77


def connector_runs(connection: socket.socket) -> bool:
    """Whether the process that connected still has its number, by the kernel's own hold on it; so asked after its
    ``/proc`` directory was opened, that directory is its own. True where the kernel can't tell (before Linux 6.5).
    """
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        try:
            told = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii")
        finally:
            os.close(pidfd)
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT
    return f"Pid:\t{credentials_of(connection).pid}\n" in told


class ProcessFiles(Protocol):
    """The files below ``/proc/PID``. Each raises OSError, the process's end included."""

    def text(self, name: str) -> str:
        """The content of a small file."""

    def link(self, name: str) -> str:
        """Where a symbolic link leads."""

    def open(self, name: str) -> int:
        """A descriptor to read the file by, the caller's to close."""


class ProcessDirectory:
    """Meets ProcessFiles. Close it, or use it in a ``with``. Raises AccessError where there is no such process."""

    def __init__(self, pid: int) -> None:
        try:
            self._directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise AccessError(f"pid {pid}: its /proc directory can't be opened: {error.strerror}") from error

    def text(self, name: str) -> str:
        with os.fdopen(self.open(name), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

    def link(self, name: str) -> str:
        return os.readlink(name, dir_fd=self._directory)

    def open(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)

    def close(self) -> None:
        os.close(self._directory)

    def __enter__(self) -> ProcessDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
