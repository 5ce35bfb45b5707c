"""Follows an SSLKEYLOGFILE while programs append to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from meshtls.capture.keylog import LONGEST_LINE, KeyLog
from meshtls.errors import ConfigError

__all__ = ["GrowingKeyLog"]

#: Bytes that are read at once, so that a large file does not hold up packets.
_PIECE = 1 << 16


class GrowingKeyLog:
    """The lines of a file as they come. It need not exist yet, and may be replaced or cut."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for what exists and is no regular file, or can't be read."""
        self._path = path
        self._descriptor = -1
        self._offset = 0
        self._held = b""
        self._open()

    def more(self) -> bytes:
        """The lines that were added since, whole and valid ones only; b"" where there are none.

        Raises ConfigError where the file can't be read any more.
        """
        if self._descriptor < 0 or self._is_another():
            self.close()
            self._open()
        if self._descriptor < 0:
            return b""
        try:
            size = os.fstat(self._descriptor).st_size
            if size == self._offset:
                return b""
            if size < self._offset:
                self._offset, self._held = 0, b""
            data = os.pread(self._descriptor, _PIECE, self._offset)
        except OSError as error:
            raise ConfigError(f"{self._path}: wanted a key log to read: {error.strerror}") from error
        self._offset += len(data)
        *lines, rest = (self._held + data).split(b"\n")
        self._held = rest[: LONGEST_LINE + 1]
        # Secrets that we know how to use: whatever else is in the file stays there.
        return b"".join(line + b"\n" for line in lines if len(KeyLog(line)) > 0)

    def close(self) -> None:
        """Follow it no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{self._path}: wanted a key log to read: {reason}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(f"{self._path}: wanted a key log to read: it is not a regular file")
        self._descriptor, self._offset, self._held = descriptor, 0, b""

    def _is_another(self) -> bool:
        """Whether the path leads to another file now. While it leads to none, the old one is read on."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False
