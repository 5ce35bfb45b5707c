"""The bytes of a capture file, read in large pieces, with offsets. Pure: the stream is given.

A reader keeps the buffer and its position in local variables and comes back only when the buffer has too few bytes:
that is once for hundreds of packets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from meshtls.capture.files.gunzip import GZIP, Gunzip
from meshtls.capture.files.packet import FileError, Position

__all__ = ["Source"]

#: Bytes of one read.
_PIECE = 1 << 18


class Source:
    """A stream that can only be read forward. What ends it early is kept as a reason, and not raised.

    - ``failure``: why the stream ended before its end: a read failed, or the compressed data is damaged.
    """

    def __init__(self, stream: BinaryIO) -> None:
        # read1 returns what a pipe has, so that the packets of a running capture come at once.
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._buffer_ends_at = 0
        self._ended = False
        self.failure = ""

    def offset(self, position: Position) -> int:
        """The offset in the file of the byte at ``position``, which has to be in the last buffer."""
        return self._buffer_ends_at - len(position.buffer) + position.at

    def begin(self, wanted: int) -> Position:
        """The position of the first byte, with ``wanted`` bytes from there on if there are; what is gzip is
        decompressed."""
        position = self.fill(Position(b"", 0), wanted)
        if position.buffer.startswith(GZIP):
            self._read = Gunzip(self._read, position.buffer).read
            self._buffer_ends_at, self._ended = 0, False
            position = self.fill(Position(b"", 0), wanted)
        return position

    def fill(self, position: Position, wanted: int) -> Position:
        """A buffer with at least ``wanted`` bytes from the position on, or all that are left."""
        buffer, at = position
        have = len(buffer) - at
        if have >= wanted or self._ended:
            return position
        pieces = [buffer[at:]]
        while have < wanted and (piece := self._piece()):
            pieces.append(piece)
            have += len(piece)
        return Position(b"".join(pieces), 0)

    def skip(self, position: Position, count: int) -> tuple[Position, int]:
        """The position ``count`` bytes later, without keeping them; and how many of them the file had."""
        buffer, at = position
        have = len(buffer) - at
        if have >= count:
            return Position(buffer, at + count), count
        skipped = have
        while piece := self._piece():
            if skipped + len(piece) >= count:
                return Position(piece, count - skipped), count
            skipped += len(piece)
        return Position(b"", 0), skipped

    def error(self, position: Position, reason: str) -> FileError:
        """An error at the position."""
        return FileError(self.offset(position), reason)

    def short(self, position: Position, wanted: int, what: str) -> FileError:
        """The error of a file that ends within ``what``, which needs ``wanted`` bytes from the position on."""
        have = len(position.buffer) - position.at
        reason = f"the file ends within {what}: wanted {wanted} bytes, got {have}"
        return self.error(position, f"{self.failure}; {reason}" if self.failure else reason)

    def _piece(self) -> bytes:
        if self._ended:
            return b""
        try:
            piece = self._read(_PIECE)
        except OSError as error:
            piece, self.failure = b"", f"reading failed: {error.strerror or error}"
        except ValueError as error:
            piece, self.failure = b"", str(error)
        self._ended = not piece
        self._buffer_ends_at += len(piece)
        return piece
