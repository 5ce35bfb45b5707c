"""HTTP/2 frames: cut out of a byte stream, and built (RFC 9113, sections 4 and 6). Pure.

The payload of a DATA frame is passed on in the pieces in which it arrives, as views without a copy. None of it is kept
here, so large frames can be allowed at no cost in memory. Every other frame is passed on whole.
"""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "FRAME_HEADER",
    "HEADER_BYTES",
    "HIGHEST_STREAM",
    "MAX_CONTROL",
    "MIN_MAX_FRAME",
    "PACKED_HEADER",
    "PADDED",
    "PREFACE",
    "PRIORITY_FIELDS",
    "ErrorCode",
    "Frame",
    "FrameReader",
    "Kind",
    "ProtocolError",
    "check",
    "check_flood",
    "check_size",
    "frame",
    "frame_header",
    "goaway_frame",
    "may_begin_settings",
    "unpadded",
]

#: What a client sends before its first frame (RFC 9113, section 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: A frame's header (RFC 9113, section 4.1): 16 and 8 bits of its length, kind, flags, and the stream's number, whose
#: highest bit is reserved: take the number & HIGHEST_STREAM.
FRAME_HEADER = struct.Struct(">HBBBL")
#: The same for writing, which is faster with fewer parts: length << 8 | kind, flags, and the stream's number.
PACKED_HEADER = struct.Struct(">LBL")
HEADER_BYTES = FRAME_HEADER.size
_KIND_AT = 3
HIGHEST_STREAM = (1 << 31) - 1
#: The length that every peer accepts without having said so (RFC 9113, section 6.5.2, SETTINGS_MAX_FRAME_SIZE).
MIN_MAX_FRAME = 1 << 14
#: The longest frame other than DATA that is accepted here, since those are kept until they are whole.
MAX_CONTROL = MIN_MAX_FRAME

END_STREAM, END_HEADERS, PADDED, PRIORITY_FIELDS = 0x1, 0x4, 0x8, 0x20
ACK = 0x1
_PRIORITY_BYTES = 5
_SETTING_BYTES = 6
_GOAWAY = struct.Struct(">LL")
#: Bytes of a GOAWAY's debug data.
_LONGEST_DETAIL = 256


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Kind(IntEnum):
    """The frame types that are known here; others are ignored (RFC 9113, section 4.1)."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class ProtocolError(Exception):
    """The peer broke a rule. ``stream_id`` is the one stream that this ends; 0 if it ends the connection."""

    def __init__(self, code: ErrorCode, detail: str, stream_id: int = 0) -> None:
        super().__init__(detail)
        self.code = code
        self.stream_id = stream_id


def check(kept: bool, rule: str) -> None:
    """Raise ProtocolError of the connection (PROTOCOL_ERROR) unless the rule was kept."""
    if not kept:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, rule)


def check_flood(kept: bool, rule: str) -> None:
    """The same with ENHANCE_YOUR_CALM, for bounds on what a peer may make us do."""
    if not kept:
        raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, rule)


def check_size(kind: Kind, length: int, wanted: int) -> None:
    """The same with FRAME_SIZE_ERROR, for frames of a fixed length."""
    if length != wanted:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"wanted {kind.name} of {wanted} bytes, got {length}")


#: Kind, flags, stream, payload, and the length that counts for flow control, which with padding is more than the
#: payload's. A plain tuple: a named tuple costs as much again as everything else in cutting a frame.
Frame = tuple[int, int, int, memoryview | bytes, int]


class FrameReader:
    """Feed bytes as they arrive; frames come out. A DATA frame may come out in pieces: END_STREAM is with the last.

    At most one unfinished frame is kept: MAX_CONTROL bytes, ``max_block`` bytes of a header block, or ``max_frame``
    bytes of DATA with padding.
    """

    __slots__ = ("_data_flags", "_data_left", "_data_stream", "_held", "_max_block", "_max_frame")

    def __init__(self, max_frame: int, max_block: int = MAX_CONTROL) -> None:
        self._max_frame = max_frame
        self._max_block = max_block
        self._held = bytearray()
        self._data_left = self._data_flags = self._data_stream = 0

    def feed(self, data: memoryview | bytes) -> list[Frame]:
        """The frames that ``data`` completes; their payloads are views of it. Raises ProtocolError."""
        frames: list[Frame] = []
        at, end = 0, len(data)
        while at < end:
            if self._data_left:
                at = self._data_piece(data, at, frames)
            elif self._held:
                at = self._fill(data, at, frames)
            else:
                at = self._cut(data, at, end, frames)
                if at < end and not self._data_left:
                    self._held += data[at:]
                    break
        return frames

    @property
    def kept(self) -> int:
        """Bytes of the unfinished frame."""
        return len(self._held)

    def may_begin(self, kind: Kind) -> bool:
        """Whether the unfinished frame that is kept can be of this kind."""
        return len(self._held) <= _KIND_AT or self._held[_KIND_AT] == kind

    def _cut(self, data: memoryview | bytes, at: int, end: int, frames: list[Frame]) -> int:
        """Take all whole frames from ``at`` on; return the position after them, or after a DATA frame's header."""
        while (start := at + HEADER_BYTES) <= end:
            high, low, kind, flags, number = FRAME_HEADER.unpack_from(data, at)
            length = high << 8 | low
            if length > MAX_CONTROL:
                self._check_length(kind, length)
            if (stop := start + length) > end:
                if kind or flags & PADDED:
                    break
                self._data_left, self._data_flags, self._data_stream = length, flags, number & HIGHEST_STREAM
                return start
            frames.append((kind, flags, number & HIGHEST_STREAM, data[start:stop], length))
            at = stop
        return at

    def _data_piece(self, data: memoryview | bytes, at: int, frames: list[Frame]) -> int:
        stop = min(at + self._data_left, len(data))
        self._data_left -= stop - at
        flags = self._data_flags & ~END_STREAM if self._data_left else self._data_flags
        frames.append((Kind.DATA, flags, self._data_stream, data[at:stop], stop - at))
        return stop

    def _fill(self, data: memoryview | bytes, at: int, frames: list[Frame]) -> int:
        """Complete the frame whose beginning is kept, or keep more of it."""
        held = self._held
        needed = HEADER_BYTES if len(held) < HEADER_BYTES else HEADER_BYTES + _length(held)
        stop = min(at + needed - len(held), len(data))
        held += data[at:stop]
        if len(held) == needed and self._cut(bytes(held), 0, needed, frames):
            held.clear()
        return stop

    def _check_length(self, kind: int, length: int) -> None:
        limit = MAX_CONTROL
        if kind == Kind.DATA:
            limit = self._max_frame
        elif kind in (Kind.HEADERS, Kind.CONTINUATION):
            limit = max(MAX_CONTROL, self._max_block)
        if length > limit:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"wanted a frame of at most {limit} bytes, got {length}")


def may_begin_settings(head: bytes) -> bool:
    """Whether these are the header of a SETTINGS frame that is no acknowledgement and has fewer than 256 bytes, or the
    first bytes of one (RFC 9113, section 6.5).
    """
    if len(head) < HEADER_BYTES:
        kind, rest = head[_KIND_AT : _KIND_AT + 1], head[_KIND_AT + 1 :]
        return head[:1] == b"\0" and kind in (b"", bytes([Kind.SETTINGS])) and rest == bytes(len(rest))
    high, low, number_of_kind, flags, stream = FRAME_HEADER.unpack_from(head)
    return (high, number_of_kind, flags, stream) == (0, Kind.SETTINGS, 0, 0) and low % _SETTING_BYTES == 0


def unpadded(kind: int, flags: int, payload: memoryview | bytes) -> memoryview | bytes:
    """The payload without its padding and without the priority fields of HEADERS (RFC 9113, sections 6.1 and 6.2).

    Raises ProtocolError.
    """
    if flags & PADDED:
        if not payload or payload[0] >= len(payload):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "wanted padding that is shorter than its frame, got more")
        payload = payload[1 : len(payload) - payload[0]]
    if flags & PRIORITY_FIELDS and kind == Kind.HEADERS:
        if len(payload) < _PRIORITY_BYTES:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "wanted 5 bytes of priority in HEADERS, got fewer")
        payload = payload[_PRIORITY_BYTES:]
    return payload


def frame_header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    """The nine bytes before a payload of ``length``."""
    return PACKED_HEADER.pack(length << 8 | kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """A whole frame."""
    return PACKED_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def goaway_frame(code: int, last: int, detail: str = "") -> bytes:
    """GOAWAY (RFC 9113, section 6.8): no stream above ``last`` is handled. ``detail`` becomes its debug data."""
    return frame(Kind.GOAWAY, 0, 0, _GOAWAY.pack(last, code) + detail.encode()[:_LONGEST_DETAIL])


def _length(held: bytearray) -> int:
    return held[0] << 16 | held[1] << 8 | held[2]
