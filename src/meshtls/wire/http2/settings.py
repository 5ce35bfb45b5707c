"""What each side of an HTTP/2 connection asks of the other (RFC 9113, section 6.5). Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from meshtls.wire.http2.frames import MIN_MAX_FRAME, ErrorCode, ProtocolError

__all__ = [
    "DEFAULT_WINDOW",
    "MAX_FRAME",
    "MAX_HEADER_LIST",
    "MAX_WINDOW",
    "OPENED_STREAMS",
    "Bounds",
    "PeerSettings",
    "Setting",
    "TunnelBounds",
    "own_settings",
    "settings_payload",
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
    ENABLE_CONNECT_PROTOCOL = 0x8


class Bounds(Protocol):
    """What one connection accepts of its peer.

    - ``streams``: those that the peer may have open at once; on a client's connection, those that we open.
    - ``window``: bytes that the peer may send on a stream before any of them is read.
    - ``connection_window``: bytes that the peer may send on all streams before we return any of the window.
    """

    @property
    def streams(self) -> int: ...

    @property
    def window(self) -> int: ...

    @property
    def connection_window(self) -> int: ...


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
    return settings_payload(ours)


def settings_payload(settings: Mapping[Setting, int]) -> bytes:
    return b"".join(_PAIR.pack(*item) for item in sorted(settings.items()))


class PeerSettings:
    """What the peer has asked for so far; the initial values are the standard's. Unknown settings are ignored.

    The peer's table for header compression is not among them: what we send uses no table (see ``headers``).
    """

    __slots__ = ("_known", "_opened", "connect_protocol", "initial_window", "max_frame", "max_streams")

    def __init__(self, opened: int = OPENED_STREAMS) -> None:
        """``opened``: streams that we open at once, even if the peer allows more."""
        self._known = False
        self._opened = opened
        #: The peer takes extended CONNECT (RFC 8441).
        self.connect_protocol = False
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = MIN_MAX_FRAME
        self.max_streams = opened

    def update(self, payload: memoryview | bytes, *, from_server: bool) -> None:
        """Take the payload of a SETTINGS frame. Raises ProtocolError."""
        if len(payload) % _PAIR.size:
            raise ProtocolError(
                ErrorCode.FRAME_SIZE_ERROR, f"wanted SETTINGS in units of 6 bytes, got {len(payload)} bytes"
            )
        if not self._known:
            self._known, self.max_streams = True, self._opened  # until now it was a guess
        for key, value in _PAIR.iter_unpack(payload):
            if key == Setting.MAX_CONCURRENT_STREAMS:
                self.max_streams = min(value, self._opened)
            elif key == Setting.INITIAL_WINDOW_SIZE:
                self.initial_window = _checked(key, value, 0, MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR)
            elif key == Setting.MAX_FRAME_SIZE:
                self.max_frame = _checked(key, value, MIN_MAX_FRAME, _LARGEST_MAX_FRAME)
            elif key == Setting.ENABLE_PUSH:
                _checked(key, value, 0, 0 if from_server else 1)
            elif key == Setting.ENABLE_CONNECT_PROTOCOL and from_server:
                self.connect_protocol = _checked(key, value, int(self.connect_protocol), 1) == 1


def _checked(key: int, value: int, least: int, most: int, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> int:
    if not least <= value <= most:
        raise ProtocolError(code, f"wanted {Setting(key).name} from {least} to {most}, got {value}")
    return value
