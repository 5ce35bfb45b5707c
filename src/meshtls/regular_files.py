"""Opens files that an operator names. A named pipe is refused: opening one waits for a writer, maybe forever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_regular", "read_regular"]

#: Descriptors of this process by their paths, as a shell's ``<(command)`` gives them: whoever opened them writes.
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
_STANDARD_INPUT = "/dev/stdin"


def open_regular(path: Path) -> BinaryIO:
    """Open it for reading. Raises OSError, also for a named pipe; a descriptor of ours, such as /dev/stdin, may be a
    pipe.
    """
    if str(path) == _STANDARD_INPUT or str(path).startswith(_DESCRIPTORS):
        return path.open("rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        _check(descriptor, path)
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(descriptor: int, path: Path) -> None:
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "wanted a regular file, got a named pipe", str(path))


def read_regular(path: Path) -> bytes:
    """Its content. Raises OSError as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()
