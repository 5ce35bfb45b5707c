"""A stream that several processes write lines to, none of which is ever torn."""

from __future__ import annotations

import fcntl
import tempfile
from typing import Self, TextIO

__all__ = ["WholeLines"]


class WholeLines:
    """Writes to ``stream`` under a lock. A context manager, to be entered before the fork.

    The kernel writes only up to 4096 bytes to a pipe atomically, and a line that quotes a peer may be longer. The lock
    is a record lock, which belongs to a process: it is released if the process dies while writing.
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
        """Nothing to do: nothing is buffered."""
