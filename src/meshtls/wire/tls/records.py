"""TLS's records, cut from the bytes of one direction as they come (RFC 8446, section 5.1; RFC 5246, section 6.2). Pure.

The reader holds at most one record that is not whole. What can't be a record ends the direction for good, with the
offset and the reason; the other direction has a reader of its own.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from meshtls.wire.side import Side
from meshtls.wire.tls.names import CONTENT_TYPES, SSL_2_0, ContentType
from meshtls.wire.tls.reading import DecodeError, byte_count

__all__ = ["MAX_PAYLOAD", "RECORD_HEADER", "SSL_2_0_HELLO", "Record", "RecordReader"]

#: Bytes of a record's header, and the most bytes that may follow it: 2^14 and the expansion that TLS 1.2 allows (RFC
#: 5246, section 6.2.3), of which TLS 1.3 uses less.
RECORD_HEADER, MAX_PAYLOAD = 5, (1 << 14) + 2048
#: The content type that we give the ClientHello of SSL 2.0, whose records have none (RFC 5246, appendix E.2).
SSL_2_0_HELLO = 0x80
#: Its header, its message type, and the least length: the type, the version, three lengths.
_SSL_2_0_HEADER, _SSL_2_0_CLIENT_HELLO, _SSL_2_0_LEAST = 2, 1, 9
_MAJOR_VERSION = 3
_HEADER = Struct(">BHH")
_APPLICATION_DATA = int(ContentType.APPLICATION_DATA)
#: Makes a tuple of a class without the call of its ``__new__``: a handshake has twenty records.
_made = tuple.__new__
_LOWEST, _HIGHEST = min(CONTENT_TYPES), max(CONTENT_TYPES)


class Record(NamedTuple):
    """``offset`` is that of its header in the direction's bytes, and ``length`` how many bytes follow the header.

    ``payload`` is what follows, if it was kept. ``missing`` of the bytes were lost in the capture; then it is empty.
    """

    offset: int
    content_type: int
    version: int
    length: int
    payload: bytes
    missing: int = 0


class RecordReader:
    """Reads the records of one side. ``feed`` takes what one side sent, in pieces of any size, and returns the records
    that are whole with it.

    ``error`` says why no more records come; it is None as long as they do. ``keep_application_data`` may be switched at
    any time: without it the payloads of such records are not kept, only counted. ``beginning`` is that of a record that
    is not whole.
    """

    __slots__ = (
        "_header",
        "_missing",
        "_need",
        "_skip",
        "beginning",
        "error",
        "keep_application_data",
        "offset",
        "side",
    )

    def __init__(self, side: Side, *, keep_application_data: bool = True) -> None:
        self.side = side
        self.keep_application_data = keep_application_data
        self.error: DecodeError | None = None
        #: How many bytes came, those that were lost included.
        self.offset = 0
        self.beginning = bytearray()
        #: How long it has to be before it is looked at again.
        self._need = 0
        #: Of a record whose payload is not kept: its offset and header, and how many bytes are still to come and how
        #: many of them were lost.
        self._header = (0, 0, 0, 0)
        self._skip = self._missing = 0

    @property
    def pending(self) -> int:
        """The bytes that have come of a record that is not whole; 0 between two records."""
        return self._header[3] + RECORD_HEADER - self._skip if self._skip else len(self.beginning)

    @property
    def kept(self) -> int:
        """Bytes that are kept of a record that is not whole."""
        return len(self.beginning)

    def feed(self, data: bytes) -> list[Record]:
        """The records that end in ``data``."""
        begin, at = self.offset, 0
        self.offset += len(data)
        records: list[Record] = []
        if self.error is not None:
            return records
        if self._skip:
            if len(data) < self._skip:
                self._skip -= len(data)
                return records
            at = self._skip
            records.append(self._skipped())
        elif self.beginning:
            if len(self.beginning) + len(data) < self._need:
                self.beginning += data
                return records
            begin -= len(self.beginning)
            data = bytes(self.beginning) + data
            self.beginning.clear()
        size = len(data)
        while size - at >= RECORD_HEADER:
            kind, version, length = _HEADER.unpack_from(data, at)
            if not _LOWEST <= kind <= _HIGHEST or version >> 8 != _MAJOR_VERSION or length > MAX_PAYLOAD:
                if begin + at or not self._is_ssl_2_0(data):
                    break
                kind, version, length = SSL_2_0_HELLO, SSL_2_0, (data[0] & 0x7F) << 8 | data[1]
                start, end = _SSL_2_0_HEADER, _SSL_2_0_HEADER + length
            else:
                start = at + RECORD_HEADER
                end = start + length
            if end > size:
                if kind == _APPLICATION_DATA and not self.keep_application_data:
                    self._header, self._skip = (begin + at, kind, version, length), end - size
                    return records
                self._wait(data, at, end - at)
                return records
            kept = kind != _APPLICATION_DATA or self.keep_application_data
            payload = data[start:end] if kept else b""
            records.append(_made(Record, (begin + at, kind, version, length, payload, 0)))
            at = end
        if at < size:
            self.error = self._fault(begin + at, data[at : at + RECORD_HEADER])
            if self.error is None:
                self._wait(data, at, size - at + 1)
        return records

    def lost(self, count: int) -> list[Record]:
        """So many bytes were lost in the capture. The record that ends with the last of them, if one does.

        Where records begin is known again only if the loss is within a record; otherwise it is an ``error``.
        """
        begin = self.offset
        self.offset += count
        if self.error is not None or count == 0:
            return []
        if not self._skip and len(self.beginning) >= RECORD_HEADER and self.beginning[0] < SSL_2_0_HELLO:
            kind, version, length = _HEADER.unpack_from(self.beginning)
            self._header = (begin - len(self.beginning), kind, version, length)
            self._skip = self._need - len(self.beginning)
            self.beginning.clear()
        if count > self._skip:
            self._skip = 0
            self.beginning.clear()
            reason = f"{byte_count(count)} lost here: where the next record begins is not known"
            self.error = DecodeError(begin, reason)
            return []
        self._skip -= count
        self._missing += count
        return [] if self._skip else [self._skipped()]

    def _skipped(self) -> Record:
        record = Record(*self._header, b"", self._missing)
        self._skip = self._missing = 0
        return record

    def _wait(self, data: bytes, at: int, need: int) -> None:
        self.beginning += data[at:] if at else data
        self._need = need

    def _is_ssl_2_0(self, data: bytes) -> bool:
        """Whether these first bytes of a connection begin, as far as they go, a ClientHello of SSL 2.0."""
        return (
            self.side is Side.CLIENT
            and data[0] >= SSL_2_0_HELLO
            and (len(data) <= _SSL_2_0_HEADER or data[_SSL_2_0_HEADER] == _SSL_2_0_CLIENT_HELLO)
            and (len(data) < _SSL_2_0_HEADER or (data[0] & 0x7F) << 8 | data[1] >= _SSL_2_0_LEAST)
        )

    def _fault(self, offset: int, header: bytes) -> DecodeError | None:
        """Why these bytes begin no record; None if they may."""
        if offset == 0 and self._is_ssl_2_0(header):
            return None
        if not _LOWEST <= header[0] <= _HIGHEST:
            return DecodeError(offset, f"wanted a content type from {_LOWEST} to {_HIGHEST}, got {header[0]}")
        if len(header) > 1 and header[1] != _MAJOR_VERSION:
            return DecodeError(offset + 1, f"wanted a version with the major number 3, got {header[1]}")
        if len(header) == RECORD_HEADER:
            length = int.from_bytes(header[3:], "big")
            return DecodeError(offset + 3, f"wanted a record of at most {MAX_PAYLOAD} bytes, got {length}")
        return None
