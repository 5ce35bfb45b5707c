"""A frame field by field: the fields of a valid one, and for each mistake the field that shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.frame import build_strict, frame_fields, problems_of


def shown(data: bytes) -> list[tuple[str, int, int, object, str]]:
    tree = frame_fields(data)
    assert (tree.name, tree.offset, tree.length) == ("frame", 0, len(data))
    return [(one.name, one.offset, one.length, one.value, one.text) for one in tree.children]


def errors(data: bytes) -> dict[str, str]:
    return {one.name: one.error for one in frame_fields(data).walk() if one.error}


def test_each_field_of_a_frame_has_its_bytes_and_its_meaning() -> None:
    assert shown(build_strict(1, b"abc", 1, 42)) == [
        ("version and type", 0, 1, 0x11, "version 1, type 1 (data)"),
        ("flags", 1, 1, 1, "checksum"),
        ("length", 2, 2, 13, "13 bytes: 8 of the header and 5 after it"),
        ("id", 4, 4, 42, ""),
        ("payload", 8, 3, b"abc", ""),
        ("checksum", 11, 2, 0x2A65, "of the 11 bytes before it"),
    ]
    assert shown(build_strict(0, b"", 0, 42))[-1] == ("payload", 8, 0, b"", "")
    assert errors(build_strict(1, b"abc", 1, 42)) == errors(build_strict(0, b"")) == {}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", {"frame": "short header at offset 0: wanted a header of 8 bytes, got 0"}),
        ("11000008", {"frame": "short header at offset 4: wanted a header of 8 bytes, got 4"}),
        ("1100000800", {"incomplete header": "short header at offset 5: wanted a header of 8 bytes, got 5"}),
        (
            "3f00000800000000",
            {
                "version and type": "unknown version at offset 0: wanted 1, got 3; "
                "unknown type at offset 0: wanted 0 (control) or 1 (data), got 15"
            },
        ),
        ("11f0000800000000", {"flags": "reserved flags at offset 1: wanted no flag but 0x01, got 0xf0"}),
        (
            "1100000700000000",
            {"length": "length below header at offset 2: wanted at least 8, since the header counts, got 7"},
        ),
        (
            "1100000a00000000 61",
            {"length": "length beyond data at offset 9: wanted 10 bytes, as the length says, got 9"},
        ),
        (
            "1100000900000000 6162",
            {"trailing bytes": "trailing bytes at offset 9: wanted 9 bytes, as the length says, got 10"},
        ),
        (
            "1101000d0000002a 616263 2a66",
            {"checksum": "bad checksum at offset 11: wanted 0x2a65, got 0x2a66"},
        ),
        (
            "1101000900000000 61",
            {"frame": "bad checksum at offset 8: wanted a frame of at least 10 bytes, as flag 0x01 says, got 9"},
        ),
    ],
)
def test_a_mistake_is_shown_by_the_field_that_has_it(data: str, expected: dict[str, str]) -> None:
    assert errors(bytes.fromhex(data)) == expected


def test_reserved_flags_and_bytes_after_a_length_below_the_header_are_named() -> None:
    assert shown(bytes.fromhex("10830003 00000000 6162"))[1:] == [
        ("flags", 1, 1, 0x83, "checksum, reserved 0x82"),
        ("length", 2, 2, 3, "3 bytes"),
        ("id", 4, 4, 0, ""),
        ("payload", 8, 0, b"", ""),
        ("trailing bytes", 8, 2, b"ab", ""),
    ]


starts = st.sampled_from([b"", b"\x11\x01\x00\x0b", b"\x11\x01\x00\x0a\0\0\0\0", b"\x10\x00\x00\x09\0\0\0\0"])


@given(st.builds(bytes.__add__, starts, st.binary(max_size=16)))
def test_each_byte_belongs_to_one_field_and_each_problem_is_shown_once(data: bytes) -> None:
    tree = frame_fields(data)
    at = 0
    for leaf in tree.leaves():
        assert leaf.offset == at or not tree.children
        at = leaf.end
    assert at == len(data)
    shown_errors = [one for text in tree.errors() for one in text.split("; ")]
    assert sorted(shown_errors) == sorted(map(str, problems_of(data)))
