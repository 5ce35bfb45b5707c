"""A header block that is not valid HPACK is told in words, without addresses of memory or bytes of the block."""

from __future__ import annotations

import pytest

from meshtls.wire.http2.fields import FieldDecoder
from meshtls.wire.http2.frames import ErrorCode, ProtocolError
from meshtls.wire.http2.headers import HeaderDecoder

NOT_HPACK = "the peer's header block is not valid HPACK: "
_LONG = b"\xff" * 40


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\xff" + _LONG, "an integer in it is too long"),
        (b"\xff\xff", "an integer in it ends early"),
        (b"\x0f", "an integer in it ends early"),
        (b"\xff\x80\x01", "it refers to a field that the table lacks"),
        (b"\x80", "it refers to a field that the table lacks"),
        (b"\x3f\xff\xff\x03", "it makes the table larger than was allowed"),
        (b"\x00\x7f\x80\x01abc", "a text in it ends early"),
        (b"\x00\x01a\x84\xff\xff\xff\xff", "a text in it is no Huffman code"),
        (b"\x82\x3f\xe1\x1f", "it changes the table's size after a field"),
    ],
)
def test_an_error_of_a_block_is_told_in_our_words(block: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as told:
        FieldDecoder(1 << 16).decode(block)
    assert (told.value.code, str(told.value)) == (ErrorCode.COMPRESSION_ERROR, NOT_HPACK + why)
    with pytest.raises(ProtocolError) as skipped:
        HeaderDecoder().skip(block)
    assert (skipped.value.code, str(skipped.value)) == (ErrorCode.COMPRESSION_ERROR, NOT_HPACK + why)
    # The same decoder reads a block that is valid.
    assert FieldDecoder(1 << 16).decode(b"\x82") == [(b":method", b"GET")]


def test_the_table_has_to_become_as_small_as_was_wanted() -> None:
    decoder = FieldDecoder(1 << 16)
    decoder._decoder.max_allowed_table_size = 0  # what no peer of ours can ask for
    with pytest.raises(ProtocolError) as told:
        decoder.decode(b"\x0f\x81\x80\x00\x01a")
    assert str(told.value) == NOT_HPACK + "it does not make the table as small as was wanted"
    assert decoder.decode(b"\x20\x82") == [(b":method", b"GET")]
