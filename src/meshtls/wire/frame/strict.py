"""The strict reading of a frame: which types and flags are known, where a checksum is, and what is refused. Pure.

The lesson leaves these open, so they are defined here, in a way that the lesson's own code still reads:

- Version 1 is known, and the types 0 (control, without a meaning for the app) and 1 (data).
- Flag 0x01 says that the last two bytes of the frame are a checksum: that of all bytes before it, the header included,
  in network byte order. ``length`` counts them, and the payload ends before them. The header has no room for it, and a
  checksum without the header would not notice a wrong length. The other flags are reserved and have to be zero.
- ``length`` is from 8 to 65,535, and ends where the data end.

The checksum detects accidents, and not all: one that clears the flag removes the check. It has no key, so that it stops
nobody who changes a frame on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag

from meshtls.wire.frame.packet import (
    HEADER,
    HEADER_BYTES,
    MAX_LENGTH,
    VERSION,
    Bytes,
    Frame,
    build,
    checksum,
    parse,
    short_header,
)
from meshtls.wire.frame.refusal import FrameError, FrameFault

__all__ = [
    "CHECKSUM_BYTES",
    "KNOWN_STARTS",
    "FrameFlag",
    "FrameType",
    "build_strict",
    "checksum_problems",
    "header_problems",
    "parse_strict",
    "problems_of",
    "without_checksum",
]

CHECKSUM_BYTES = 2
_MAX_ID = 0xFFFFFFFF


class FrameType(IntEnum):
    """The known types."""

    CONTROL = 0
    DATA = 1


class FrameFlag(IntFlag):
    """The known flags."""

    CHECKSUM = 0x01


#: An operation on an enum's member takes longer than all else that is done for a frame.
_CHECKSUM = _KNOWN_FLAGS = int(FrameFlag.CHECKSUM)
#: Version, type and flags of a valid frame without a checksum, and the same as the header has them, also with one.
_PLAIN = frozenset((VERSION, int(kind), 0) for kind in FrameType)
KNOWN_STARTS = frozenset((VERSION << 4 | kind, flags) for kind in FrameType for flags in (0, _CHECKSUM))
_TYPES = " or ".join(f"{kind.value} ({kind.name.lower()})" for kind in FrameType)


def build_strict(kind: int, payload: Bytes, flags: int = 0, identifier: int = 0) -> bytes:
    """A valid frame; with FrameFlag.CHECKSUM among ``flags`` its checksum is appended. Raises FrameError."""
    _raise_first(_type_and_flags_problems(kind, flags))
    tail = CHECKSUM_BYTES if flags & _CHECKSUM else 0
    most = MAX_LENGTH - HEADER_BYTES - tail
    size = memoryview(payload).nbytes
    if size > most:
        detail = f"wanted at most {most} bytes, got {size}"
        raise FrameError(FrameFault.PAYLOAD_OVER_MAXIMUM, HEADER_BYTES, detail)
    if not 0 <= identifier <= _MAX_ID:
        raise FrameError(FrameFault.ID_OUT_OF_RANGE, 4, f"wanted 0 to {_MAX_ID}, got {identifier}")
    frame = build(kind, bytes(payload) + bytes(tail), flags, identifier)
    return frame[:-tail] + checksum(frame[:-tail]).to_bytes(tail, "big") if tail else frame


def parse_strict(data: Bytes, *, max_length: int = MAX_LENGTH) -> Frame:
    """The frame that ``data`` is; its payload has no checksum. ``max_length`` is the most that is accepted, in bytes.

    Raises FrameError for the first of ``problems_of``.
    """
    frame = parse(data)
    # Most frames have no problem and no checksum, which this finds in a fraction of the time of looking for each.
    if frame[:3] in _PLAIN and len(data) == frame.length <= max_length:
        return frame
    _raise_first(problems_of(data, max_length=max_length))
    return without_checksum(frame)


def without_checksum(frame: Frame) -> Frame:
    """The valid frame with what is before its checksum as payload."""
    return frame._replace(payload=frame.payload[:-CHECKSUM_BYTES]) if frame.flags & _CHECKSUM else frame


def problems_of(data: Bytes, *, max_length: int = MAX_LENGTH) -> Iterator[FrameError]:
    """All that is wrong with ``data`` as one frame: first the header's fields in their order, then what follows."""
    size = len(data)
    if size < HEADER_BYTES:
        yield short_header(size)
        return
    yield from header_problems(data, max_length=max_length)
    _, flags, length, _ = HEADER.unpack(data[:HEADER_BYTES])
    if length > size:
        yield FrameError(FrameFault.LENGTH_BEYOND_DATA, size, f"wanted {length} bytes, as the length says, got {size}")
    elif length < HEADER_BYTES:
        return
    elif length < size:
        detail = f"wanted {length} bytes, as the length says, got {size}"
        yield FrameError(FrameFault.TRAILING_BYTES, length, detail)
    if flags & _CHECKSUM and length <= size:
        yield from checksum_problems(data[:length])


def header_problems(data: Bytes, *, max_length: int = MAX_LENGTH) -> Iterator[FrameError]:
    """What is wrong with the first 8 bytes, which have to be there."""
    start, flags, length, _ = HEADER.unpack(data[:HEADER_BYTES])
    if (start, flags) in KNOWN_STARTS and HEADER_BYTES <= length <= max_length:
        return
    if start >> 4 != VERSION:
        yield FrameError(FrameFault.UNKNOWN_VERSION, 0, f"wanted {VERSION}, got {start >> 4}")
    yield from _type_and_flags_problems(start & 0xF, flags)
    if length < HEADER_BYTES:
        detail = f"wanted at least {HEADER_BYTES}, since the header counts, got {length}"
        yield FrameError(FrameFault.LENGTH_BELOW_HEADER, 2, detail)
    elif length > max_length:
        detail = f"wanted a length of at most {max_length}, got {length}"
        yield FrameError(FrameFault.PAYLOAD_OVER_MAXIMUM, 2, detail)


def checksum_problems(frame: Bytes) -> Iterator[FrameError]:
    """What is wrong with the checksum of a whole frame that says that it has one."""
    end = len(frame) - CHECKSUM_BYTES
    if end < HEADER_BYTES:
        detail = (
            f"wanted a frame of at least {HEADER_BYTES + CHECKSUM_BYTES} bytes, as flag 0x01 says, got {len(frame)}"
        )
        yield FrameError(FrameFault.BAD_CHECKSUM, HEADER_BYTES, detail)
        return
    wanted, got = checksum(frame[:end]), int.from_bytes(frame[end:], "big")
    if got != wanted:
        yield FrameError(FrameFault.BAD_CHECKSUM, end, f"wanted {wanted:#06x}, got {got:#06x}")


def _type_and_flags_problems(kind: int, flags: int) -> Iterator[FrameError]:
    if kind not in tuple(FrameType):
        yield FrameError(FrameFault.UNKNOWN_TYPE, 0, f"wanted {_TYPES}, got {kind}")
    if flags & ~_KNOWN_FLAGS:
        detail = f"wanted no flag but {_KNOWN_FLAGS:#04x}, got {flags:#04x}"
        yield FrameError(FrameFault.RESERVED_FLAGS, 1, detail)


def _raise_first(problems: Iterator[FrameError]) -> None:
    for problem in problems:
        raise problem
