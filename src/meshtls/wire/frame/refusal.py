"""Why a frame is invalid: one code for each reason, with its words. Pure."""

from __future__ import annotations

from enum import Enum

__all__ = ["FrameError", "FrameFault"]


class FrameFault(Enum):
    """What is wrong with a frame; the value is the code in words."""

    SHORT_HEADER = "short header"
    UNKNOWN_VERSION = "unknown version"
    UNKNOWN_TYPE = "unknown type"
    RESERVED_FLAGS = "reserved flags"
    LENGTH_BELOW_HEADER = "length below header"
    PAYLOAD_OVER_MAXIMUM = "payload over the maximum"
    LENGTH_BEYOND_DATA = "length beyond data"
    TRAILING_BYTES = "trailing bytes"
    BAD_CHECKSUM = "bad checksum"
    #: Only of a frame to be built: every 32 bits on the wire are a valid ID.
    ID_OUT_OF_RANGE = "id out of range"


class FrameError(ValueError):
    """A frame is invalid: ``code``, and the ``offset`` of the first byte that shows it, from the frame's first byte.

    ``detail`` says what was wanted and what came.
    """

    def __init__(self, code: FrameFault, offset: int, detail: str) -> None:
        super().__init__(f"{code.value} at offset {offset}: {detail}")
        self.code = code
        self.offset = offset
        self.detail = detail

    def __reduce__(self) -> tuple[type[FrameError], tuple[FrameFault, int, str]]:
        return type(self), (self.code, self.offset, self.detail)
