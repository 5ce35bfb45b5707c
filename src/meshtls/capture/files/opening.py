"""Opens capture files: to read, also from standard input, and to write, for the owner alone."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from meshtls.capture.files.pcap import MAGICS
from meshtls.capture.files.pcapng import SECTION_HEADER
from meshtls.errors import ConfigError
from meshtls.private_files import SECRET

__all__ = ["CAPTURES", "STANDARD_INPUT", "opened_to_read", "opened_to_write"]

STANDARD_INPUT = "-"
#: What captures begin with: pcap, pcapng, gzip.
CAPTURES = (*MAGICS, SECTION_HEADER, b"\x1f\x8b")
_MAGIC = 4
#: What is at a path besides a regular file or a device.
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
}


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

    A capture with this name, or an empty file, is replaced. Raises ConfigError, before anything is changed, for
    whatever else has this name.
    """
    try:
        _remove_an_older_capture(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, SECRET)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a file to write packets to: {error.strerror}") from error
    return open(descriptor, "wb")


def _remove_an_older_capture(path: Path) -> None:
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if kind != stat.S_IFREG:
        raise _not_replaced(path, _KINDS.get(kind, "a device"))
    with open(path, "rb") as old:
        begin = old.read(_MAGIC)
    if begin and not begin.startswith(CAPTURES):
        raise _not_replaced(path, "another file")
    path.unlink()


def _not_replaced(path: Path, got: str) -> ConfigError:
    return ConfigError(
        f"{path}: wanted a new file, or an older capture to replace, got {got}, which is left as it is: choose another"
        " name"
    )
