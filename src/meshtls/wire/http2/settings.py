"""What each side of an HTTP/2 connection asks of the other (RFC 9113, section 6.5). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from meshtls.wire.http2.frames import MIN_MAX_FRAME, ErrorCode, ProtocolError

__all__ = [
    "DEFAULT_WINDOW",
    "MAX_FRAME",
    "MAX_HEADER_LIST",
    "MAX_WINDOW",
    "OPENED_STREAMS",
    "PeerSettings",
    "Setting",
    "TunnelBounds",
    "own_settings",
]

DEFAULT_WINDOW = (1 << 16) - 1
MAX_WINDOW = (1 << 31) - 1
#: A receive of a bulk stream fills one frame. Payloads are passed on in pieces, so a frame's length costs no memory.
MAX_FRAME = 1 << 18
#: Streams that a client opens on one connection, even if its peer allows more; the next need another connection.
OPENED_STREAMS = 100
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


@dataclass(frozen=True, slots=True)
class TunnelBounds:
    """What one connection accepts: ``streams`` that its peer may have open, and ``window``, the bytes that the peer
    may send on a stream before any of them is read.

    The defaults are Envoy's own (1024 streams, 16 MiB, and 24 MiB for the connection). An Envoy that has not read our
    SETTINGS yet opens as many streams as it would itself accept, and with smaller windows Envoy truncates a response
    if the app behind it closes before all of it is sent.
    """

    streams: int = 1024
    window: int = 1 << 24

    @property
    def connection_window(self) -> int:
        """Bytes that a peer may send on all streams before we return any of the window."""
        return max(min(self.window + (self.window >> 1), MAX_WINDOW), DEFAULT_WINDOW)


def own_settings(bounds: TunnelBounds, *, client: bool) -> bytes:
    """The payload of our SETTINGS."""
    ours = {
        Setting.INITIAL_WINDOW_SIZE: bounds.window,
        Setting.MAX_FRAME_SIZE: MAX_FRAME,
        Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
    }
    ours[Setting.ENABLE_PUSH if client else Setting.MAX_CONCURRENT_STREAMS] = 0 if client else bounds.streams
    return b"".join(_PAIR.pack(*item) for item in sorted(ours.items()))


class PeerSettings:
    """What the peer has asked for so far; the initial values are the standard's. Unknown settings are ignored.

    The peer's table for header compression is not among them: what we send uses no table (see ``headers``).
    """

    __slots__ = ("_known", "initial_window", "max_frame", "max_streams")

    def __init__(self) -> None:
        self._known = False
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = MIN_MAX_FRAME
        self.max_streams = OPENED_STREAMS

    def update(self, payload: memoryview | bytes, *, from_server: bool) -> None:
        """Take the payload of a SETTINGS frame. Raises ProtocolError."""
        if len(payload) % _PAIR.size:
            raise ProtocolError(
                ErrorCode.FRAME_SIZE_ERROR, f"wanted SETTINGS in units of 6 bytes, got {len(payload)} bytes"
            )
        if not self._known:
            self._known, self.max_streams = True, OPENED_STREAMS  # until now it was a guess
        for key, value in _PAIR.iter_unpack(payload):
            if key == Setting.MAX_CONCURRENT_STREAMS:
                self.max_streams = min(value, OPENED_STREAMS)
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
