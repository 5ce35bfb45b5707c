"""Many frames of one buffer: a fast loop over their headers, and a reading by columns. Pure.

Where a frame begins is known only from the length of the one before, so that a loop in Python has to follow the
lengths. It reads two bytes a frame and nothing else; a column is made when it is asked for, as a slice with a step
of the headers joined. Where all frames have the same length, there is no loop at all, and the slice is of the buffer.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import sub

from meshtls.wire.frame.packet import HEADER, HEADER_BYTES, Bytes, Frame, short_header
from meshtls.wire.frame.refusal import FrameError, FrameFault

__all__ = ["Frames", "HeaderFields", "headers", "parse_many"]

#: Version, type, flags, length and ID of a frame, and the offset of its first byte.
HeaderFields = tuple[int, int, int, int, int, int]

_LENGTH_AT, _ID_AT = 2, 4
_length_from = struct.Struct("!H").unpack_from
_UPPER = bytes(byte >> 4 for byte in range(256))
_LOWER = bytes(byte & 0xF for byte in range(256))


def headers(data: Bytes) -> Iterator[HeaderFields]:
    """The header's fields of the frames that follow one another in ``data``; the last payload may be cut short.

    A payload is ``data[offset + 8 : offset + length]``. Raises FrameError, after the frames before it, for a length
    below 8 and for less than 8 bytes at the end.
    """
    at, size = 0, len(data)
    unpack = HEADER.unpack_from
    last = size - HEADER_BYTES
    while at <= last:
        version_and_type, flags, length, identifier = unpack(data, at)
        # No NamedTuple: to make one takes longer than all of this.
        yield version_and_type >> 4, version_and_type & 0xF, flags, length, identifier, at
        if length < HEADER_BYTES:
            raise _below_header(at, length)
        at += length
    if at < size:
        raise FrameError(FrameFault.SHORT_HEADER, at, short_header(size - at).detail)


class Frames:
    """The frames of one buffer. A column has one value for each, in their order: ``bytes`` where a value is a byte.

    - ``data``: the buffer.
    - ``offsets``: where each frame begins, from the buffer's first byte; a ``range`` if all have the same length.
    - ``end``: where the last one ends. What follows is incomplete, or, with an ``error``, invalid.
    - ``error``: why reading stopped before the end: a length below 8.
    """

    def __init__(self, data: bytes, offsets: Sequence[int], end: int, error: FrameError | None = None) -> None:
        self.data = data
        self.offsets = offsets
        self.end = end
        self.error = error

    def __repr__(self) -> str:
        state = f", {self.error.code.value}" if self.error else ""
        return f"<Frames {len(self)} in {self.end} of {len(self.data)} bytes{state}>"

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Frame]:
        columns = (self.versions, self.types, self.flags, self.lengths, self.ids, self.payloads)
        return map(Frame._make, zip(*columns, strict=True))

    @cached_property
    def versions(self) -> bytes:
        """The upper four bits of each frame's first byte."""
        return self._bytes_at(0).translate(_UPPER)

    @cached_property
    def types(self) -> bytes:
        """The lower four bits of each frame's first byte."""
        return self._bytes_at(0).translate(_LOWER)

    @cached_property
    def flags(self) -> bytes:
        """The flags of each frame."""
        return self._bytes_at(1)

    @cached_property
    def lengths(self) -> array[int]:
        """The length of each frame, in bytes with its header."""
        if isinstance(self.offsets, range):
            return array("H", [self.offsets.step]) * len(self)
        return array("H", list(map(sub, self._ends, self.offsets)))

    @cached_property
    def ids(self) -> array[int]:
        """The ID of each frame."""
        joined = bytearray(4 * len(self))
        for place in range(4):
            joined[place::4] = self._bytes_at(_ID_AT + place)
        found = array("I", bytes(joined))
        if sys.byteorder == "little":
            found.byteswap()
        return found

    @cached_property
    def payloads(self) -> list[bytes]:
        """The payload of each frame, copied."""
        data = self.data
        return [data[at + HEADER_BYTES : end] for at, end in zip(self.offsets, self._ends, strict=True)]

    @property
    def _ends(self) -> list[int]:
        return [*self.offsets[1:], self.end] if self.offsets else []

    def _bytes_at(self, place: int) -> bytes:
        """This byte of each frame's header."""
        data, step = self._headers
        return data[place::step]

    @cached_property
    def _headers(self) -> tuple[bytes, int]:
        """Bytes in which the headers begin at each multiple of a step."""
        if isinstance(self.offsets, range):
            return self.data, self.offsets.step
        data = self.data
        return b"".join([data[at : at + HEADER_BYTES] for at in self.offsets]), HEADER_BYTES


def parse_many(data: Bytes) -> Frames:
    """The frames that follow one another in ``data``, which is copied unless it is ``bytes``.

    Reads as ``packet.parse`` does, so that only a length below 8 is an error. Raises nothing.
    """
    held = bytes(data)
    return _of_one_length(held) or _of_any_length(held)


def _of_one_length(data: bytes) -> Frames | None:
    """The frames, if all have the length of the first, and nothing incomplete follows."""
    if len(data) < HEADER_BYTES:
        return None
    (length,) = _length_from(data, _LENGTH_AT)
    if length < HEADER_BYTES or len(data) % length:
        return None
    here = data[_LENGTH_AT : _LENGTH_AT + 2]
    # Look at one more frame before looking at all.
    if not data.startswith(here, length % len(data) + _LENGTH_AT):
        return None
    for place, byte in enumerate(here, _LENGTH_AT):
        column = data[place::length]
        if column.count(byte) < len(column):
            return None
    return Frames(data, range(0, len(data), length), len(data))


def _of_any_length(data: bytes) -> Frames:
    offsets: list[int] = []
    at, length = 0, HEADER_BYTES
    add, length_from = offsets.append, _length_from
    try:
        while (length := length_from(data, at + _LENGTH_AT)[0]) >= HEADER_BYTES:
            add(at)
            at += length
    except struct.error:  # the data end before a length
        length = HEADER_BYTES
    if length < HEADER_BYTES and len(data) - at >= HEADER_BYTES:
        return Frames(data, offsets, at, _below_header(at, length))
    if at > len(data):  # also where the last header is cut short
        at = offsets.pop()
    return Frames(data, offsets, at)


def _below_header(at: int, length: int) -> FrameError:
    detail = f"wanted at least {HEADER_BYTES}, since the header counts, got {length}"
    return FrameError(FrameFault.LENGTH_BELOW_HEADER, at + _LENGTH_AT, detail)
