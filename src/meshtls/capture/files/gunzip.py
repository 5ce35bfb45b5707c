"""Decompresses a gzip stream (RFC 1952) piece by piece, of several members too. Pure: the stream is given."""

from __future__ import annotations

import zlib
from collections.abc import Callable

__all__ = ["GZIP", "Gunzip"]

#: What a gzip stream begins with.
GZIP = b"\x1f\x8b"
_WITH_HEADER = 31
#: Compressed bytes that are taken at once.
_TAKEN = 1 << 16


class Gunzip:
    """Reads as a stream does. Memory is bounded by the size of one read, whatever the data expands to."""

    def __init__(self, read: Callable[[int], bytes], taken: bytes) -> None:
        """``taken``: what was read of the stream already."""
        self._read, self._waiting = read, taken
        self._member = zlib.decompressobj(_WITH_HEADER)
        self._offset = 0
        self._broken = ""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises ValueError where the data is damaged or ends early, once all before that was returned.
        """
        while not self._broken:
            if self._member.eof and not self._next_member():
                if self._broken:
                    break
                return b""
            compressed = self._take()
            if not compressed:
                self._broken = f"the gzip data ends early, after {self._offset} compressed bytes"
                if rest := self._member.flush():
                    return rest
                break
            if piece := self._decompressed(compressed, size):
                return piece
        raise ValueError(self._broken)

    def _take(self) -> bytes:
        """The next compressed bytes."""
        if not self._waiting:
            self._waiting = self._read(_TAKEN)
        taken, self._waiting = self._waiting[:_TAKEN], self._waiting[_TAKEN:]
        return taken

    def _decompressed(self, compressed: bytes, size: int) -> bytes:
        before = self._member.copy()
        try:
            piece = self._member.decompress(compressed, size)
        except zlib.error:
            return self._up_to_the_damage(before, compressed)
        left = self._member.unconsumed_tail or self._member.unused_data
        self._offset += len(compressed) - len(left)
        self._waiting = left + self._waiting
        return piece

    def _up_to_the_damage(self, member: zlib._Decompress, compressed: bytes) -> bytes:
        """The bytes before the damage, found by taking one compressed byte after the other."""
        pieces = []
        try:
            for at in range(len(compressed)):
                pieces.append(member.decompress(compressed[at : at + 1]))
                self._offset += 1
        except zlib.error:
            self._broken = f"the gzip data is damaged at compressed byte {self._offset}"
        return b"".join(pieces)

    def _next_member(self) -> bool:
        """Whether another member begins. Zeros after the last one are padding."""
        while len(self._waiting) < len(GZIP):
            more = self._read(_TAKEN)
            if not more:
                break
            self._waiting += more
        if self._waiting.startswith(GZIP):
            self._member = zlib.decompressobj(_WITH_HEADER)
            return True
        if self._waiting.strip(b"\0"):
            self._broken = f"wanted another gzip member or the end after {self._offset} compressed bytes"
        return False
