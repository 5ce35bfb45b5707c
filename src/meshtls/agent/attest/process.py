"""A process of this machine, held by a descriptor of its ``/proc`` directory.

A PID alone is not enough: the process may end and another may get its PID. A read through the directory gives data of
the process that had the PID when the directory was opened, or fails.

Only this module reads ``/proc`` of callers, and it returns bytes; ``proc_text`` parses them.
"""

from __future__ import annotations

import errno
import os
import socket
from types import TracebackType
from typing import Protocol

from meshtls.agent.attest.proc_text import lines_of
from meshtls.errors import AccessError
from meshtls.rpc.peer_credentials import credentials_of

__all__ = ["ProcessDirectory", "ProcessFiles", "peer_still_runs", "reopened"]

# Of asm-generic/socket.h, from Linux 6.5 on; the socket module has no name for it.
_SO_PEERPIDFD = 77
#: Bytes of a file; the longest is the status of a process in 65,536 groups.
_LONGEST = 2**20


def peer_still_runs(connection: socket.socket) -> bool:
    """Whether the process that connected still has its PID, by the kernel's pidfd of the peer.

    Called after the ``/proc`` directory was opened, this shows that the directory is that process's. True if the kernel
    can't tell (before Linux 6.5).
    """
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        try:
            told = _content(os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC))
        finally:
            os.close(pidfd)
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT
    return f"Pid:\t{credentials_of(connection).pid}".encode() in lines_of(told)


def reopened(program: int) -> int:
    """A readable descriptor of a program that ``ProcessFiles.program`` returned; the caller closes it."""
    return os.open(f"/proc/self/fd/{program}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


class ProcessFiles(Protocol):
    """The files below ``/proc/PID``. Each raises OSError, the process's end included."""

    def content(self, name: str) -> bytes:
        """The content of a small file."""

    def link(self, name: str) -> bytes:
        """Where a symbolic link leads."""

    def program(self) -> int:
        """A descriptor of the program's file, opened with O_PATH; the caller closes it. ``reopened`` makes it readable.

        Opening it does not access the file's file system, which may block for as long as its owner likes.
        """


class ProcessDirectory:
    """Meets ProcessFiles. Close it, or use it in a ``with``. Raises AccessError where there is no such process."""

    def __init__(self, pid: int) -> None:
        try:
            self._directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise AccessError(f"pid {pid}: its /proc directory can't be opened: {error.strerror}") from error

    def content(self, name: str) -> bytes:
        return _content(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory))

    def link(self, name: str) -> bytes:
        return os.readlink(os.fsencode(name), dir_fd=self._directory)

    def program(self) -> int:
        return os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=self._directory)

    def close(self) -> None:
        os.close(self._directory)

    def __enter__(self) -> ProcessDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        content = bytearray()
        while part := file.read(_LONGEST + 1 - len(content)):
            content += part
            if len(content) > _LONGEST:
                raise OSError(errno.EFBIG, f"it has more than {_LONGEST} bytes")
        return bytes(content)
