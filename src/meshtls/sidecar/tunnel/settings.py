"""What each side of an HTTP/2 connection asks of the other (RFC 9113, section 6.5). Pure."""

from __future__ import annotations

import struct
from enum import IntEnum

from meshtls.sidecar.tunnel.frames import MIN_MAX_FRAME, ErrorCode, ProtocolError

__all__ = [
    "CONNECTION_WINDOW",
    "DEFAULT_WINDOW",
    "MAX_FRAME",
    "MAX_HEADER_LIST",
    "MAX_STREAMS",
    "MAX_WINDOW",
    "STREAM_WINDOW",
    "WIDE_STREAMS",
    "WIDE_WINDOW",
    "PeerSettings",
    "Setting",
    "own_settings",
]

DEFAULT_WINDOW = (1 << 16) - 1
MAX_WINDOW = (1 << 31) - 1
#: Bytes that a peer may have under way on one stream at first. What a stalled app leaves here is at most this, times
#: the streams. It also bounds how much bulk is queued ahead of another stream's message.
STREAM_WINDOW = 1 << 18
#: The window of a stream whose app has shown that it reads, for this many streams at a time: a tenth less CPU on bulk.
WIDE_WINDOW = 1 << 20
WIDE_STREAMS = 8
CONNECTION_WINDOW = 1 << 22
#: One receive of a bulk stream is one frame. Payloads are passed on in pieces, so a frame's length costs no memory.
MAX_FRAME = 1 << 18
MAX_STREAMS = 100
MAX_HEADER_LIST = 1 << 14

_PAIR = struct.Struct(">HL")
_LARGEST_MAX_FRAME = (1 << 24) - 1


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


def own_settings(*, client: bool) -> bytes:
    """The payload of our SETTINGS."""
    asked = {
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        Setting.MAX_FRAME_SIZE: MAX_FRAME,
        Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
    }
    asked[Setting.ENABLE_PUSH if client else Setting.MAX_CONCURRENT_STREAMS] = 0 if client else MAX_STREAMS
    return b"".join(_PAIR.pack(*item) for item in sorted(asked.items()))


class PeerSettings:
    """What the peer has asked so far; the start values are the standard's. Unknown settings are skipped.

    The peer's table for header compression is not among them: what we send uses none (see ``headers``).
    """

    __slots__ = ("initial_window", "max_frame", "max_streams")

    def __init__(self) -> None:
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = MIN_MAX_FRAME
        self.max_streams = MAX_STREAMS

    def update(self, payload: memoryview | bytes, *, from_server: bool) -> None:
        """Take the payload of a SETTINGS frame. Raises ProtocolError."""
        if len(payload) % _PAIR.size:
            raise ProtocolError(
                ErrorCode.FRAME_SIZE_ERROR, f"wanted SETTINGS in units of 6 bytes, got {len(payload)} bytes"
            )
        for key, value in _PAIR.iter_unpack(payload):
            if key == Setting.MAX_CONCURRENT_STREAMS:
                self.max_streams = min(value, MAX_STREAMS)
            elif key == Setting.INITIAL_WINDOW_SIZE:
                self.initial_window = _checked(key, value, 0, MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR)
            elif key == Setting.MAX_FRAME_SIZE:
                self.max_frame = _checked(key, value, MIN_MAX_FRAME, _LARGEST_MAX_FRAME)
            elif key == Setting.ENABLE_PUSH:
                _checked(key, value, 0, 0 if from_server else 1)


def _checked(key: int, value: int, least: int, most: int, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> int:
    if not least <= value <= most:
        raise ProtocolError(code, f"wanted {Setting(key).name} from {least} to {most}, got {value}")
    return value
