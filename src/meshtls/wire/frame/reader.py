"""Frames out of a stream that arrives in pieces, cut at any byte. Pure."""

from __future__ import annotations

from meshtls.wire.frame.packet import HEADER, HEADER_BYTES, MAX_LENGTH, Bytes, Frame, parse, short_header
from meshtls.wire.frame.refusal import FrameError, FrameFault
from meshtls.wire.frame.strict import KNOWN_STARTS, FrameFlag, checksum_problems, header_problems, without_checksum

__all__ = ["FrameReader"]

_CHECKSUM = int(FrameFlag.CHECKSUM)
#: What is invalid also where a reader is not strict.
_OF_LENGTH = (FrameFault.LENGTH_BELOW_HEADER, FrameFault.PAYLOAD_OVER_MAXIMUM)


class FrameReader:
    """The frames of one stream, whose length fields say where each ends.

    It keeps the bytes of at most one incomplete frame, which is at most ``max_length`` bytes long. After an invalid
    frame nobody knows where the next one begins: ``error`` is set, and further bytes are dropped. Its offset is counted
    from the stream's first byte. With ``strict=False`` a frame is invalid only where its length is below 8 or above
    ``max_length``, and a payload is all that follows the header, as in ``packet.parse``.
    """

    def __init__(self, *, strict: bool = True, max_length: int = MAX_LENGTH) -> None:
        if not HEADER_BYTES <= max_length <= MAX_LENGTH:
            raise ValueError(f"max_length: wanted {HEADER_BYTES} to {MAX_LENGTH}, got {max_length}")
        self.error: FrameError | None = None
        #: The stream's bytes before those that are kept: where the next frame begins.
        self.offset = 0
        self._strict = strict
        self._max_length = max_length
        self._kept = bytearray()
        #: The size at which something can be done: of a header, then of the frame.
        self._wanted = HEADER_BYTES

    def __repr__(self) -> str:
        state = f"failed: {self.error.code.value}" if self.error else f"{len(self._kept)} of {self._wanted} bytes"
        return f"<FrameReader at offset {self.offset}, {state}>"

    def feed(self, data: Bytes) -> list[Frame]:
        """The frames that these bytes complete, in their order; those before an invalid one are among them."""
        if self.error is not None:
            return []
        self._kept += data
        if len(self._kept) < self._wanted:
            return []
        ready, at, frames = bytes(self._kept), 0, list[Frame]()
        self._wanted = HEADER_BYTES
        while len(ready) - at >= HEADER_BYTES:
            start, flags, length, _ = HEADER.unpack_from(ready, at)
            problem = None
            if not HEADER_BYTES <= length <= self._max_length or (self._strict and (start, flags) not in KNOWN_STARTS):
                problems = header_problems(ready[at : at + HEADER_BYTES], max_length=self._max_length)
                problem = next(one for one in problems if self._strict or one.code in _OF_LENGTH)
            if problem is None and len(ready) - at < length:
                self._wanted = length
                break
            whole = ready[at : at + length]
            summed = self._strict and flags & _CHECKSUM
            if problem is None and summed:
                problem = next(checksum_problems(whole), None)
            if problem is not None:
                self._fail(problem)
                return frames
            frames.append(without_checksum(parse(whole)) if summed else parse(whole))
            at += length
            self.offset += length
        del self._kept[:at]
        return frames

    def end(self) -> FrameError | None:
        """The stream has ended: the error of an incomplete frame, or the error before; None if all was read."""
        size = len(self._kept)
        if self.error is None and size:
            if size < HEADER_BYTES:
                self._fail(short_header(size))
            else:
                detail = f"wanted {self._wanted} bytes, as the length says, got {size}"
                self._fail(FrameError(FrameFault.LENGTH_BEYOND_DATA, size, detail))
        return self.error

    def _fail(self, problem: FrameError) -> None:
        self.error = FrameError(problem.code, self.offset + problem.offset, problem.detail)
        self._kept.clear()
