"""Finds where a record of TLS begins in bytes after a gap (RFC 8446, section 5.1). Pure."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from meshtls.wire.tls.records import MAX_PAYLOAD, RECORD_HEADER

__all__ = ["SEARCHED", "Found", "RecordSearch"]

#: Bytes that are looked through: a record begins within one record's length, and where it ends there is another one.
SEARCHED = 2 * (MAX_PAYLOAD + RECORD_HEADER)
#: All records but the first of a client have this version (RFC 8446, section 5.1; for TLS 1.2 it is the version).
_VERSION_NUMBER = 0x0303
_VERSION = _VERSION_NUMBER.to_bytes(2, "big")
_HEADER = Struct(">BHH")
_KINDS = range(20, 25)


class Found(NamedTuple):
    """A record that was found after lost bytes. ``data`` begins with a record, at this offset of the direction."""

    offset: int
    data: bytes


class RecordSearch:
    """Looks for the first record after lost bytes. ``feed`` takes what comes after the gap, until it returns where a
    record begins; ``failed``: there is none.

    A header alone proves nothing, since five such bytes can be anywhere in what is encrypted. So a record counts if it
    ends with the last byte that came, or if another header stands where it ends.
    """

    __slots__ = ("_at", "_held", "_start", "failed")

    def __init__(self, offset: int) -> None:
        """``offset`` is that of the first byte after the gap."""
        self._start = offset
        self._held = bytearray()
        self._at = 0
        self.failed = False

    @property
    def held(self) -> int:
        """Bytes that came and have not been given back."""
        return len(self._held)

    @property
    def offset(self) -> int:
        """The offset of the next byte."""
        return self._start + len(self._held)

    def feed(self, data: bytes) -> Found | None:
        """The bytes from the first record on, once it is found."""
        if self.failed:
            return None
        held = self._held
        held += data
        while (place := held.find(_VERSION, self._at + 1)) > 0:
            at = self._at = place - 1
            if at + RECORD_HEADER > len(held):
                break
            end = _end_of(held, at)
            if end == len(held) or (end and end + RECORD_HEADER <= len(held) and _end_of(held, end)):
                return Found(self._start + at, bytes(held[at:]))
            if end and end + RECORD_HEADER > len(held):
                break  # what stands after it has not come yet
            self._at = place
        if place < 0:
            self._at = max(self._at, len(held) - len(_VERSION))  # what was looked at once is not looked at again
        if self._at > SEARCHED:
            self.failed = True
            held.clear()
        return None


def _end_of(data: bytearray, at: int) -> int:
    """Where the record at ``at`` ends; 0 if there is none."""
    kind, version, length = _HEADER.unpack_from(data, at)
    valid = kind in _KINDS and version == _VERSION_NUMBER and 0 < length <= MAX_PAYLOAD
    return at + RECORD_HEADER + length if valid else 0
