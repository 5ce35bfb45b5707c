"""Building and parsing the packet exactly as the lesson does, and the Internet checksum. Pure.

The header is ``!BBHI``: version and type (four bits each), flags, length (of header and payload) and ID, in network
byte order and without padding. Whatever the lesson's own code accepts has the same result here, also where that is
surprising: a type is cut to four bits; a length that ends before the header gives an empty payload, one that ends after
the data the payload that is there; bytes after the length are ignored. ``strict`` refuses all of these.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from meshtls.wire.frame.refusal import FrameError, FrameFault

__all__ = [
    "HEADER",
    "HEADER_BYTES",
    "MAX_LENGTH",
    "MAX_PAYLOAD",
    "VERSION",
    "Bytes",
    "Frame",
    "build",
    "checksum",
    "parse",
]

Bytes = bytes | bytearray | memoryview

HEADER = struct.Struct("!BBHI")
HEADER_BYTES = HEADER.size
#: The most that the length field can say, in bytes with the header, and what is left for the payload.
MAX_LENGTH = 0xFFFF
MAX_PAYLOAD = MAX_LENGTH - HEADER_BYTES
VERSION = 1

_new = tuple.__new__


class Frame(NamedTuple):
    """A packet. ``length`` is that of the header, in bytes, and may differ from what the payload's is."""

    version: int
    type: int
    flags: int
    length: int
    id: int
    payload: Bytes


def build(kind: int, payload: Bytes, flags: int = 0, identifier: int = 0) -> bytes:
    """A packet of version 1. Of ``kind``, its type, the lower four bits are used.

    Raises ``struct.error`` for flags outside 0 to 255, an identifier outside 0 to 2^32-1, and a payload of more than
    MAX_PAYLOAD bytes.
    """
    return HEADER.pack(VERSION << 4 | kind & 0xF, flags, HEADER_BYTES + len(payload), identifier) + payload


def parse(data: Bytes) -> Frame:
    """The packet at the beginning of ``data``. Its payload has the type of ``data``: a memoryview is not copied.

    Raises FrameError (SHORT_HEADER), a ValueError, for less than 8 bytes.
    """
    if len(data) < HEADER_BYTES:
        raise short_header(len(data))
    version_and_type, flags, length, identifier = HEADER.unpack(data[:HEADER_BYTES])
    # As the class does it, in half the time: its own constructor is a function of Python.
    values = (version_and_type >> 4, version_and_type & 0xF, flags, length, identifier, data[HEADER_BYTES:length])
    return _new(Frame, values)


def short_header(size: int) -> FrameError:
    """The error for this number of bytes, which ends before the header does."""
    return FrameError(FrameFault.SHORT_HEADER, size, f"wanted a header of {HEADER_BYTES} bytes, got {size}")


def checksum(data: Bytes) -> int:
    """The Internet checksum (RFC 1071, section 1): the complement of the ones' complement sum of 16-bit words.

    An odd last byte is the upper half of a word. ``data`` is not changed.
    """
    # 2^16 is 1 modulo 2^16-1, so that the sum of the words has the remainder of the data as one large number. A sum
    # that is not zero never folds to zero, but to 0xFFFF.
    number = int.from_bytes(data, "big") << 8 * (len(data) % 2)
    folded = number % 0xFFFF or (0xFFFF if number else 0)
    return folded ^ 0xFFFF
