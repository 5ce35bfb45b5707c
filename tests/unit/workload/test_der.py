"""Concatenated DER is split exactly, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.workload.der import split_der


def sequence(content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([0x30, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x30, 0x80 | len(length)]) + length + content


@given(st.lists(st.binary(max_size=600)))
def test_concatenated_sequences_are_split_again(contents: list[bytes]) -> None:
    values = [sequence(content) for content in contents]
    assert split_der(b"".join(values)) == values


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65536])
def test_every_form_of_a_length_is_read(size: int) -> None:
    value = sequence(bytes(size))
    assert split_der(value + value) == [value, value]


CUT = "byte 3 of the DER: the SEQUENCE there is cut off or has no length"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (b"\x31\x00", "byte 3 of the DER: wanted the start of a SEQUENCE, got 0x31"),
        (b"\x30", CUT),
        (b"\x30\x02a", CUT),
        (b"\x30\x82\x01", CUT),
        (b"\x30\x81", CUT),
        (b"\x30\x80ab\0\0", CUT),
        (b"\x30\xff" + b"\xff" * 200, CUT),
    ],
)
def test_a_value_that_is_no_sequence_or_is_cut_off_is_refused(rest: bytes, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        split_der(sequence(b"a") + rest)
    assert str(raised.value) == message


@given(st.binary(max_size=64).map(lambda rest: b"\x30" + rest))
def test_junk_is_parsed_whole_or_refused(data: bytes) -> None:
    try:
        values = split_der(data)
    except ValueError:
        return
    assert b"".join(values) == data
