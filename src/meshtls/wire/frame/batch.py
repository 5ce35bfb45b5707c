"""Many frames of one buffer at once: a fast loop over their headers, and a reading by columns. Pure.

Where a frame begins is known only from the length of the one before, so that a loop in Python has to follow the
lengths. It reads two bytes a frame and nothing else; each column is read when it is asked for, in one call over all
frames. Where all frames have the same length, there is no loop at all: a column is a slice with a step.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from operator import itemgetter, sub

from meshtls.wire.frame.packet import HEADER, HEADER_BYTES, Bytes, Frame, Header, short_header
from meshtls.wire.frame.refusal import FrameError, FrameFault

__all__ = ["Frames", "headers", "parse_many"]

_LENGTH_AT, _ID_AT = 2, 4
_length_from = struct.Struct("!H").unpack_from
_UPPER = bytes(byte >> 4 for byte in range(256))
_LOWER = bytes(byte & 0xF for byte in range(256))


def headers(data: Bytes) -> Iterator[Header]:
    """The headers of the frames that follow one another in ``data``, as they are; the last one may be cut short.

    Raises FrameError, after the headers before it, for a length below 8 and for less than 8 bytes at the end.
    """
    at, size = 0, len(data)
    unpack, header, new = HEADER.unpack_from, Header, tuple.__new__
    last = size - HEADER_BYTES
    while at <= last:
        # A NamedTuple's own constructor is a function of Python, which takes as long as the reading.
        yield (one := new(header, unpack(data, at)))
        length = one[2]
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
        return array("H", map(sub, chain(self.offsets[1:], (self.end,)), self.offsets))

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
        data, ends = self.data, chain(self.offsets[1:], (self.end,))
        return [data[at + HEADER_BYTES : end] for at, end in zip(self.offsets, ends, strict=False)]

    def _bytes_at(self, place: int) -> bytes:
        """This byte of each frame's header."""
        offsets = self.offsets
        if isinstance(offsets, range):
            return self.data[offsets.start + place : self.end : offsets.step]
        if len(offsets) < 2:  # for which an itemgetter gives no tuple
            return bytes(self.data[at + place] for at in offsets)
        return bytes(itemgetter(*offsets)(self.data[place:]))


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
    count, rest = divmod(len(data), max(length, HEADER_BYTES))
    upper, lower = data[_LENGTH_AT :: length or 1], data[_LENGTH_AT + 1 :: length or 1]
    if rest or length < HEADER_BYTES or upper.count(upper[0]) < count or lower.count(lower[0]) < count:
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
