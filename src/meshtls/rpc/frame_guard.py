"""Inspects each HTTP/2 frame header before h2 gets the frame, and bounds costly frames (RFC 9113, sections 4 and 10.5).
Pure.

A HEADERS frame costs a caller 40 bytes, and h2 and grpclib a task, some objects and half a millisecond. Frames that
advance no call have a budget here. It belongs to the caller, so that a new connection brings no new budget.
"""

from __future__ import annotations

from meshtls.rpc.admission import CallerBudgets
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.shedding import Refusal
from meshtls.wire.http2.frames import (
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADER_BYTES,
    HIGHEST_STREAM,
    MIN_MAX_FRAME,
    PADDED,
    PREFACE,
    ErrorCode,
    Kind,
)

__all__ = ["FloodError", "FrameGuard"]

_MOST_CONTINUATIONS = 16
#: A DATA frame with fewer bytes counts as idle, unless it ends its stream. So does one with padding, of any length: its
#: header does not say how much of it is data, and gRPC clients do not pad.
_TINY = 64
#: A connection's first frames are not counted: SETTINGS, its acknowledgement, WINDOW_UPDATE.
_FREE_FRAMES = 8
#: A client responds to each DATA frame with WINDOW_UPDATE on stream and connection; some clients also send a PING.
_FRAMES_FOR_DATA_SENT = 4
_FRAMES_FOR_A_CALL = 2
#: The CPU cost of a call in the h2 library and the handler, as a number of other frames.
CALL_COST = 16


class FloodError(Exception):
    """The connection must end, for the reason ``refusal``; ``code`` is for GOAWAY."""

    def __init__(self, refusal: Refusal, code: ErrorCode = ErrorCode.ENHANCE_YOUR_CALM) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.code = code


class FrameGuard:
    """The guard of one connection. ``caller`` has the budgets."""

    def __init__(self, caller: CallerBudgets, limits: ListenerLimits, now: float) -> None:
        self.caller = caller
        #: Open calls, and whether we have responded.
        self.streams: dict[int, bool] = {}
        #: When the current incomplete frame or header block began; None where there is none.
        self.unfinished_since: float | None = None
        self.greeted = False
        self._limits = limits
        self._preface = PREFACE
        self._header = bytearray()
        self._payload_left = 0
        self._block: int | None = None
        self._block_frames = self.highest = 0
        self._free = _FREE_FRAMES
        self._discarded = 0
        self._idle_credit = 0

    def scan(self, data: memoryview | bytearray, most: int, now: float) -> int:
        """The number of bytes of ``data`` to handle now: frames of a total cost of ``most``. Raises FloodError."""
        at = self._skip_preface(data)
        end = len(data)
        while at < end and most > 0:
            if self._payload_left:
                passed = min(self._payload_left, end - at)
                self._payload_left -= passed
                at += passed
                continue
            wanted = HEADER_BYTES - len(self._header)
            self._header += data[at : at + wanted]
            at = min(end, at + wanted)
            if len(self._header) == HEADER_BYTES:
                most -= self._judge(now)
                self._header.clear()
        if not (self._header or self._payload_left or self._block is not None):
            self.unfinished_since = None
        elif self.unfinished_since is None:
            self.unfinished_since = now
        return at

    def sent_data(self) -> None:
        """We sent a frame of DATA."""
        self._idle_credit = min(self._idle_credit + _FRAMES_FOR_DATA_SENT, 1 << 14)

    def answered(self, stream: int) -> None:
        """We sent HEADERS on this stream: a reset by the caller no longer counts."""
        if stream in self.streams:
            self.streams[stream] = True

    def ended(self, stream: int) -> None:
        """The call has ended on our side."""
        self.streams.pop(stream, None)

    def _skip_preface(self, data: memoryview | bytearray) -> int:
        if not self._preface:
            return 0
        came = bytes(data[: len(self._preface)])
        if not self._preface.startswith(came):
            raise FloodError(Refusal.NOT_HTTP2, ErrorCode.PROTOCOL_ERROR)
        self._preface = self._preface[len(came) :]
        return len(came)

    def _judge(self, now: float) -> int:
        """Count a frame whose header is complete, and return its cost. Raises FloodError."""
        high, low, kind, flags, number = FRAME_HEADER.unpack(self._header)
        length, number = high << 8 | low, number & HIGHEST_STREAM
        if length > MIN_MAX_FRAME:
            raise FloodError(Refusal.PROTOCOL, ErrorCode.PROTOCOL_ERROR)
        if not self.greeted:
            if kind != Kind.SETTINGS:
                raise FloodError(Refusal.NOT_HTTP2, ErrorCode.PROTOCOL_ERROR)
            self.greeted = True
        self._payload_left = length
        # A frame that arrived in pieces is complete; the time of the next one begins.
        self.unfinished_since = None if self._block is None else self.unfinished_since
        if kind in (Kind.HEADERS, Kind.CONTINUATION):
            return self._judge_headers(kind, flags, number, length, now)
        if kind == Kind.DATA:
            return self._judge_data(flags, number, length, now)
        if kind == Kind.RST_STREAM:
            self._judge_reset(number, now)
        else:
            self._count_idle_frame(now)
        return 1

    def _judge_headers(self, kind: int, flags: int, number: int, length: int, now: float) -> int:
        if kind == Kind.HEADERS:
            self._block, self._block_frames = 0, 0
        if self._block is None:
            raise FloodError(Refusal.PROTOCOL, ErrorCode.PROTOCOL_ERROR)
        self._block += length
        self._block_frames += 1
        if self._block > self._limits.header_bytes or self._block_frames > _MOST_CONTINUATIONS:
            raise FloodError(Refusal.HEADERS)
        if flags & END_HEADERS:
            self._block = None
        if kind == Kind.CONTINUATION or number <= self.highest:
            self._count_idle_frame(now)
            return CALL_COST
        self.highest = number
        calls = self.caller.calls
        if calls is not None and not calls.take(1, now):
            raise FloodError(Refusal.CALL_RATE)
        self.streams[number] = False
        self._idle_credit += _FRAMES_FOR_A_CALL
        return CALL_COST

    def _judge_data(self, flags: int, number: int, length: int, now: float) -> int:
        if number not in self.streams:
            # Some data may be in flight when we end a call, but no more than its window.
            self._discarded += length
            if self._discarded > self._limits.window:
                raise FloodError(Refusal.DISCARDED_DATA)
            self._count_idle_frame(now)
        elif (length < _TINY or flags & PADDED) and not flags & END_STREAM:
            self._count_idle_frame(now)
        return 1

    def _judge_reset(self, number: int, now: float) -> None:
        answered = self.streams.pop(number, None)
        if answered is None:
            self._count_idle_frame(now)
        elif not answered and not self.caller.resets.take(1, now):
            raise FloodError(Refusal.RESETS)

    def _count_idle_frame(self, now: float) -> None:
        if self._free:
            self._free -= 1
        elif self._idle_credit:
            self._idle_credit -= 1
        elif not self.caller.idle_frames.take(1, now):
            raise FloodError(Refusal.IDLE_FRAMES)
