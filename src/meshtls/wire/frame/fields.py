"""A frame field by field, each with its bytes, its meaning and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.wire.frame.packet import HEADER, HEADER_BYTES, MAX_LENGTH
from meshtls.wire.frame.refusal import FrameError, FrameFault
from meshtls.wire.frame.strict import CHECKSUM_BYTES, FrameFlag, FrameType, problems_of
from meshtls.wire.tls.fields import Field

__all__ = ["frame_fields"]

_START, _FLAGS, _LENGTH, _ID = "version and type", "flags", "length", "id"
_PAYLOAD, _CHECKSUM, _TRAILING, _INCOMPLETE = "payload", "checksum", "trailing bytes", "incomplete header"
#: The header's fields with their offsets and lengths.
_HEADER = ((_START, 0, 1), (_FLAGS, 1, 1), (_LENGTH, 2, 2), (_ID, 4, 4))
#: The field that shows each problem; the frame itself does where it has no such field.
_SHOWN_BY = {
    FrameFault.SHORT_HEADER: _INCOMPLETE,
    FrameFault.UNKNOWN_VERSION: _START,
    FrameFault.UNKNOWN_TYPE: _START,
    FrameFault.RESERVED_FLAGS: _FLAGS,
    FrameFault.LENGTH_BELOW_HEADER: _LENGTH,
    FrameFault.PAYLOAD_OVER_MAXIMUM: _LENGTH,
    FrameFault.LENGTH_BEYOND_DATA: _LENGTH,
    FrameFault.TRAILING_BYTES: _TRAILING,
    FrameFault.BAD_CHECKSUM: _CHECKSUM,
}


def frame_fields(data: bytes, *, max_length: int = MAX_LENGTH) -> Field:
    """The frame that ``data`` is meant to be, its fields in the order of the bytes, of which each belongs to one.

    What strict mode refuses is the ``error`` of the field that shows it, or of the whole frame.
    """
    problems = list(problems_of(data, max_length=max_length))
    fields = tuple(_with_errors(one, problems) for one in _fields(data))
    names = {one.name for one in fields}
    elsewhere = [str(one) for one in problems if _SHOWN_BY[one.code] not in names]
    return Field("frame", 0, len(data), children=fields, error="; ".join(elsewhere))


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    for name, offset, size in _HEADER:
        if offset + size <= len(data):
            value = int.from_bytes(data[offset : offset + size], "big")
            yield Field(name, offset, size, value, _text_of(name, value))
            at = offset + size
    if len(data) < HEADER_BYTES:
        if at < len(data):
            yield _bytes(_INCOMPLETE, data, at, len(data))
        return
    _, flags, length, _ = HEADER.unpack_from(data)
    end = min(max(length, HEADER_BYTES), len(data))
    summed = flags & FrameFlag.CHECKSUM and HEADER_BYTES + CHECKSUM_BYTES <= length <= len(data)
    tail = CHECKSUM_BYTES if summed else 0
    yield _bytes(_PAYLOAD, data, HEADER_BYTES, end - tail)
    if summed:
        value = int.from_bytes(data[end - tail : end], "big")
        yield Field(_CHECKSUM, end - tail, tail, value, f"of the {end - tail} bytes before it")
    if end < len(data):
        yield _bytes(_TRAILING, data, end, len(data))


def _bytes(name: str, data: bytes, start: int, end: int) -> Field:
    return Field(name, start, end - start, data[start:end])


def _text_of(name: str, value: int) -> str:
    if name == _START:
        kind = value & 0xF
        known = FrameType(kind).name.lower() if kind in tuple(FrameType) else "unknown"
        return f"version {value >> 4}, type {kind} ({known})"
    if name == _FLAGS:
        names = ["checksum"] if value & FrameFlag.CHECKSUM else []
        reserved = value & ~int(FrameFlag.CHECKSUM)
        return ", ".join(names + [f"reserved {reserved:#04x}"] * bool(reserved)) or "none"
    if name == _LENGTH:
        if value < HEADER_BYTES:
            return f"{value} bytes"
        return f"{value} bytes: {HEADER_BYTES} of the header and {value - HEADER_BYTES} after it"
    return ""


def _with_errors(field: Field, problems: list[FrameError]) -> Field:
    mine = [str(one) for one in problems if _SHOWN_BY[one.code] == field.name]
    return field._replace(error="; ".join(mine)) if mine else field
