"""What is wrong with a header block that can't be decoded, in our words (RFC 7541). Pure.

The ``hpack`` library's texts have addresses of memory in them, and may have bytes of the block.
"""

from __future__ import annotations

import hpack

from meshtls.wire.http2.frames import ErrorCode, ProtocolError

__all__ = ["BlockError", "as_protocol_error"]

#: How the library's texts begin, and what is told instead.
_WORDS = (
    ("Variable integer representation is too long", "an integer in it is too long"),
    ("Unable to decode HPACK integer", "an integer in it ends early"),
    ("Truncated", "a text in it ends early"),
    ("Invalid Huffman", "a text in it is no Huffman code"),
    ("Incomplete Huffman", "a text in it is no Huffman code"),
    ("Invalid table index", "it refers to a field that the table lacks"),
    ("Table size update", "it changes the table's size after a field"),
    ("Encoder exceeded", "it makes the table larger than was allowed"),
    ("Encoder did not shrink", "it does not make the table as small as was wanted"),
)
_OTHER = "it can't be decoded"


class BlockError(hpack.HPACKDecodingError):
    """A fault that we found ourselves. Its text is told as it is."""


def as_protocol_error(error: hpack.HPACKError) -> ProtocolError:
    """The error of the connection that this is (RFC 9113, sections 4.3 and 10.5.1)."""
    if isinstance(error, hpack.OversizedHeaderListError):
        return ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"the peer's header list is too long: {error}")
    text = str(error)
    words = text if isinstance(error, BlockError) else _OTHER
    for begin, ours in _WORDS:
        if text.startswith(begin):
            words = ours
    return ProtocolError(ErrorCode.COMPRESSION_ERROR, f"the peer's header block is not valid HPACK: {words}")
