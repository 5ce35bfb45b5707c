"""Strict mode: each code with its whole message, beside the frame that is accepted but for that one thing."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meshtls.wire.frame import (
    MAX_PAYLOAD,
    FrameError,
    FrameFault,
    FrameFlag,
    FrameType,
    build_strict,
    checksum,
    parse,
    parse_strict,
    problems_of,
)

CHECKSUM = FrameFlag.CHECKSUM
GOOD = bytes.fromhex("1100000b0000002a616263")
#: The same with a checksum of all before it: of an odd number of bytes, padded with a zero byte.
SUMMED = bytes.fromhex("1101000d0000002a6162632a65")


def spoilt(offset: int, *values: int, frame: bytes = GOOD) -> bytes:
    return frame[:offset] + bytes(values) + frame[offset + len(values) :]


def messages(data: bytes, **options: int) -> list[str]:
    return [str(one) for one in problems_of(data, **options)]


def test_a_valid_frame_is_accepted() -> None:
    assert messages(GOOD) == messages(SUMMED) == []
    assert parse_strict(GOOD) == (1, 1, 0, 11, 42, b"abc")
    assert parse_strict(SUMMED) == (1, 1, 1, 13, 42, b"abc")
    assert parse_strict(memoryview(SUMMED)).payload == b"abc"


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"", FrameFault.SHORT_HEADER, "short header at offset 0: wanted a header of 8 bytes, got 0"),
        (GOOD[:7], FrameFault.SHORT_HEADER, "short header at offset 7: wanted a header of 8 bytes, got 7"),
        (spoilt(0, 0x01), FrameFault.UNKNOWN_VERSION, "unknown version at offset 0: wanted 1, got 0"),
        (spoilt(0, 0x21), FrameFault.UNKNOWN_VERSION, "unknown version at offset 0: wanted 1, got 2"),
        (
            spoilt(0, 0x12),
            FrameFault.UNKNOWN_TYPE,
            "unknown type at offset 0: wanted 0 (control) or 1 (data), got 2",
        ),
        (spoilt(1, 0x82), FrameFault.RESERVED_FLAGS, "reserved flags at offset 1: wanted no flag but 0x01, got 0x82"),
        (
            spoilt(2, 0, 7),
            FrameFault.LENGTH_BELOW_HEADER,
            "length below header at offset 2: wanted at least 8, since the header counts, got 7",
        ),
        (
            spoilt(2, 0, 12),
            FrameFault.LENGTH_BEYOND_DATA,
            "length beyond data at offset 11: wanted 12 bytes, as the length says, got 11",
        ),
        (
            spoilt(2, 0, 10),
            FrameFault.TRAILING_BYTES,
            "trailing bytes at offset 10: wanted 10 bytes, as the length says, got 11",
        ),
        (
            spoilt(12, 0x66, frame=SUMMED),
            FrameFault.BAD_CHECKSUM,
            "bad checksum at offset 11: wanted 0x2a65, got 0x2a66",
        ),
        (
            spoilt(7, 0x2B, frame=SUMMED),
            FrameFault.BAD_CHECKSUM,
            "bad checksum at offset 11: wanted 0x2a64, got 0x2a65",
        ),
        (
            bytes.fromhex("110100090000000000"),
            FrameFault.BAD_CHECKSUM,
            "bad checksum at offset 8: wanted a frame of at least 10 bytes, as flag 0x01 says, got 9",
        ),
    ],
)
def test_each_invalid_field_has_its_code(data: bytes, code: FrameFault, message: str) -> None:
    assert messages(data) == [message]
    with pytest.raises(FrameError) as raised:
        parse_strict(data)
    assert (raised.value.code, str(raised.value)) == (code, message)
    assert str(raised.value).startswith(f"{code.value} at offset {raised.value.offset}: ")


def test_a_maximum_below_that_of_the_length_field_is_kept() -> None:
    assert messages(GOOD, max_length=11) == []
    assert messages(GOOD, max_length=10) == [
        "payload over the maximum at offset 2: wanted a length of at most 10, got 11"
    ]


def test_problems_are_found_in_the_order_of_the_fields() -> None:
    found = [one.code.name for one in problems_of(bytes.fromhex("2ff0000d00000000") + bytes(6))]
    assert found == ["UNKNOWN_VERSION", "UNKNOWN_TYPE", "RESERVED_FLAGS", "TRAILING_BYTES"]
    with pytest.raises(FrameError, match="^unknown version"):
        parse_strict(bytes.fromhex("2ff0000700000000"))


def test_a_frame_with_a_checksum_is_a_frame_for_the_lesson_too() -> None:
    built = build_strict(FrameType.DATA, b"abc", CHECKSUM, 42)
    assert built == SUMMED
    assert parse(built) == (1, 1, 1, 13, 42, b"abc" + checksum(built[:-2]).to_bytes(2, "big"))
    even = build_strict(FrameType.DATA, b"abcd", CHECKSUM)
    assert checksum(even) == 0


@pytest.mark.parametrize(("flags", "most"), [(0, 65_527), (CHECKSUM, 65_525)])
def test_the_largest_payload_is_built_and_parsed(flags: int, most: int) -> None:
    built = build_strict(1, bytes(most), flags)
    assert len(built) == 65_535
    assert parse_strict(built).payload == bytes(most)
    with pytest.raises(FrameError) as raised:
        build_strict(1, bytes(most + 1), flags)
    assert str(raised.value) == f"payload over the maximum at offset 8: wanted at most {most} bytes, got {most + 1}"
    assert most <= MAX_PAYLOAD


@pytest.mark.parametrize(
    ("kind", "flags", "identifier", "message"),
    [
        (2, 0, 0, "unknown type at offset 0: wanted 0 (control) or 1 (data), got 2"),
        (17, 0, 0, "unknown type at offset 0: wanted 0 (control) or 1 (data), got 17"),
        (-1, 0, 0, "unknown type at offset 0: wanted 0 (control) or 1 (data), got -1"),
        (1, 2, 0, "reserved flags at offset 1: wanted no flag but 0x01, got 0x02"),
        (1, 256, 0, "reserved flags at offset 1: wanted no flag but 0x01, got 0x100"),
        (1, 0, -1, "id out of range at offset 4: wanted 0 to 4294967295, got -1"),
        (1, 0, 2**32, "id out of range at offset 4: wanted 0 to 4294967295, got 4294967296"),
    ],
)
def test_an_invalid_frame_is_not_built(kind: int, flags: int, identifier: int, message: str) -> None:
    with pytest.raises(FrameError) as raised:
        build_strict(kind, b"", flags, identifier)
    assert str(raised.value) == message


def test_an_error_survives_pickling() -> None:
    (problem,) = problems_of(GOOD[:3])
    copied = pickle.loads(pickle.dumps(problem))  # noqa: S301  # ours
    assert (copied.code, copied.offset, str(copied)) == (problem.code, 3, str(problem))


@given(st.sampled_from(FrameType), st.binary(max_size=80), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_built_frame_is_accepted_and_has_the_same_values(
    kind: FrameType, payload: bytes, summed: bool, identifier: int
) -> None:
    flags = CHECKSUM if summed else 0
    built = build_strict(kind, payload, flags, identifier)
    assert messages(built) == []
    assert parse_strict(built) == (1, kind, flags, len(built), identifier, payload)


@given(st.binary(max_size=80), st.integers(0, 8 * 89), st.integers(1, 2**15 - 1))
def test_a_changed_burst_of_up_to_15_bits_is_noticed_as_long_as_the_flag_is_there(
    payload: bytes, bit: int, pattern: int
) -> None:
    built = build_strict(1, payload, CHECKSUM, 7)
    number = int.from_bytes(built, "big") ^ pattern << bit % (8 * len(built) - 14)
    changed = number.to_bytes(len(built), "big")
    assume(changed[1] & CHECKSUM)
    assert messages(changed) != []


def test_a_frame_whose_checksum_flag_was_cleared_has_no_checksum() -> None:
    assert parse_strict(spoilt(1, 0, frame=SUMMED)) == (1, 1, 0, 13, 42, b"abc\x2a\x65")


nearly_valid = st.builds(
    lambda start, rest: start + rest,
    st.sampled_from([GOOD[:8], SUMMED[:8], GOOD[:3], b"\x10\x01\0"]),
    st.binary(max_size=8),
)


@given(nearly_valid | st.binary(max_size=40))
def test_strict_mode_accepts_one_whole_frame_only(data: bytes) -> None:
    problems = list(problems_of(data))
    if problems:
        with pytest.raises(FrameError) as raised:
            parse_strict(data)
        assert str(raised.value) == str(problems[0])
        assert all(0 <= one.offset <= len(data) for one in problems)
    else:
        frame = parse_strict(data)
        assert build_strict(frame.type, bytes(frame.payload), frame.flags, frame.id) == data
