"""A stream that several processes write lines to, none of which is ever torn."""

from __future__ import annotations

import fcntl
import tempfile
from typing import Self, TextIO

__all__ = ["WholeLines"]


class WholeLines:
    """``stream``, written to by who holds the lock; ``with`` it around the fork.

    The kernel writes at once what fits a pipe's atomic size, 4096 bytes, and a line with a peer's words may be longer.
    The lock is a record lock, which belongs to a process: one that dies in the middle lets go of it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lock.close()

    def write(self, text: str) -> None:
        """Write all of it now."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            self._stream.write(text)
            self._stream.flush()
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def flush(self) -> None:
        """Nothing is kept back."""
