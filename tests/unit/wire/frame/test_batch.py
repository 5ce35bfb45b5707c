"""Many frames at once: by columns and in a loop, both with the values that each frame has when it is parsed alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.frame import Frame, FrameError, build, headers, parse, parse_many

MIXED = [build(kind, bytes(3 * kind), 0x10 * kind, 0x01020304 * kind) for kind in range(16)]
SAME = [build(kind, bytes((kind,) * 5), 1, 2**32 - kind - 1) for kind in range(16)]


@pytest.mark.parametrize("frames", [[], MIXED, SAME, MIXED[:1], MIXED[:2], [*SAME, build(1, b"")]])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_columns_have_the_values_of_each_frame(frames: list[bytes], kind: type[bytes]) -> None:
    found = parse_many(kind(b"".join(frames)))
    expected = [parse(one) for one in frames]
    assert list(found) == expected
    assert (len(found), found.end, found.error) == (len(frames), sum(map(len, frames)), None)
    starts = zip(found.offsets, found.lengths, strict=True)
    assert [found.data[at : at + length] for at, length in starts] == frames
    columns = (found.versions, found.types, found.flags, found.lengths, found.ids, found.payloads)
    assert [tuple(one) for one in zip(*columns, strict=True)] == [tuple(one) for one in expected]


def test_frames_of_one_length_take_no_list_of_offsets() -> None:
    assert parse_many(b"".join(SAME)).offsets == range(0, 208, 13)
    assert isinstance(parse_many(b"".join(MIXED)).offsets, list)


def test_frames_whose_lengths_share_one_byte_are_not_of_one_length() -> None:
    # 0x0108, 0x0208 and 0x0110: where the first's length leads, its upper or its lower byte is there again.
    first = build(1, bytes(0x100))
    for size in (0x200, 0x108):
        data = first + build(1, bytes(size - len(first)) + first)
        assert list(parse_many(data)) == alone(data)
        assert parse_many(data).offsets == [0, len(first)]


@pytest.mark.parametrize("kept", range(1, 13))
def test_an_incomplete_last_frame_is_left(kept: int) -> None:
    for frames in (SAME, MIXED):
        data = b"".join(frames)
        found = parse_many(data + SAME[0][:kept])
        assert (len(found), found.end, found.error) == (16, len(data), None)
    assert repr(found) == f"<Frames 16 in {len(data)} of {len(data) + kept} bytes>"


@pytest.mark.parametrize("length", [0, 1, 7])
def test_a_length_below_the_header_ends_the_reading(length: int) -> None:
    bad = b"\x11\x00\x00" + bytes((length,)) + bytes(20)
    for frames in ([], SAME[:1], SAME, MIXED):
        data = b"".join(frames)
        found = parse_many(data + bad)
        text = (
            f"length below header at offset {len(data) + 2}: wanted at least 8, since the header counts, got {length}"
        )
        assert (list(found), found.end, str(found.error)) == ([parse(one) for one in frames], len(data), text)
        with pytest.raises(FrameError) as raised:
            list(headers(data + bad))
        assert str(raised.value) == text
    assert repr(found) == f"<Frames 16 in {len(data)} of {len(data) + 24} bytes, length below header>"


def test_the_headers_fields_are_those_of_each_frame_and_its_offset() -> None:
    data = b"".join(MIXED)
    found = list(headers(data))
    assert [one[:5] for one in found] == [parse(one)[:5] for one in MIXED]
    assert [data[at + 8 : at + length] for _, _, _, length, _, at in found] == [parse(one).payload for one in MIXED]


def test_an_incomplete_header_at_the_end_is_an_error_and_an_incomplete_payload_is_not() -> None:
    assert len(list(headers(SAME[0] + SAME[1][:8]))) == 2
    reading = headers(SAME[0] + SAME[1][:7])
    assert next(reading) == (1, 0, 1, 13, 2**32 - 1, 0)
    with pytest.raises(FrameError) as raised:
        next(reading)
    assert str(raised.value) == "short header at offset 13: wanted a header of 8 bytes, got 7"


def alone(data: bytes) -> list[Frame]:
    found, at = [], 0
    while len(data) - at >= 8:
        frame = parse(data[at:])
        if not 8 <= frame.length <= len(data) - at:
            break
        found.append(frame)
        at += frame.length
    return found


framed = st.builds(build, st.integers(0, 15), st.binary(max_size=12), st.integers(0, 255), st.integers(0, 2**32 - 1))


@given(st.lists(framed | st.sampled_from(SAME) | st.binary(max_size=9), max_size=10))
def test_any_bytes_have_the_frames_that_are_found_one_by_one(parts: list[bytes]) -> None:
    found = parse_many(b"".join(parts))
    assert list(found) == alone(b"".join(parts))
    assert found.end == sum(found.lengths)


@given(st.integers(0, 600), st.integers(1, 5), st.binary(max_size=4))
def test_frames_of_any_one_length_are_read(size: int, count: int, more: bytes) -> None:
    data = build(1, bytes(size)) * count + more
    assert list(parse_many(data)) == alone(data) == [parse(data[: size + 8])] * count
