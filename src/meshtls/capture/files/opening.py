"""Opens capture files: to read, also from standard input, and to write, for the owner alone."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from meshtls.errors import ConfigError
from meshtls.private_files import SECRET

__all__ = ["STANDARD_INPUT", "opened_to_read", "opened_to_write"]

STANDARD_INPUT = "-"


@contextlib.contextmanager
def opened_to_read(name: str) -> Iterator[BinaryIO]:
    """The stream of a capture file, or of standard input for ``-``, which stays open. Raises ConfigError."""
    if name == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115  # the body is not part of the attempt
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{name}: wanted a capture file to read: {reason}") from error
    with stream:
        yield stream


def opened_to_write(path: Path) -> BinaryIO:
    """A new file that only its owner can read from its first byte on: packets and keys are secrets.

    A regular file with this name is replaced. Raises ConfigError.
    """
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"{path}: wanted a file to write packets to: {error.strerror}") from error
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, SECRET)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a file to write packets to: {error.strerror}") from error
    return open(descriptor, "wb")
