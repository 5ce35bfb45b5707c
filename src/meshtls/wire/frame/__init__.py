"""The lesson's packet: a header of 8 bytes and a payload. Pure.

``packet`` builds and parses as the lesson does, which accepts nearly everything. ``strict`` refuses what is invalid,
with a code for each reason; ``reader`` does so for a stream that arrives in pieces. ``batch`` reads many at once, and
``fields`` names each byte.
"""

from meshtls.wire.frame.batch import Frames, HeaderFields, headers, parse_many
from meshtls.wire.frame.fields import frame_fields
from meshtls.wire.frame.packet import (
    HEADER_BYTES,
    MAX_LENGTH,
    MAX_PAYLOAD,
    VERSION,
    Frame,
    build,
    checksum,
    parse,
)
from meshtls.wire.frame.reader import FrameReader
from meshtls.wire.frame.refusal import FrameError, FrameFault
from meshtls.wire.frame.strict import CHECKSUM_BYTES, FrameFlag, FrameType, build_strict, parse_strict, problems_of

__all__ = [
    "CHECKSUM_BYTES",
    "HEADER_BYTES",
    "MAX_LENGTH",
    "MAX_PAYLOAD",
    "VERSION",
    "Frame",
    "FrameError",
    "FrameFault",
    "FrameFlag",
    "FrameReader",
    "FrameType",
    "Frames",
    "HeaderFields",
    "build",
    "build_strict",
    "checksum",
    "frame_fields",
    "headers",
    "parse",
    "parse_many",
    "parse_strict",
    "problems_of",
]
