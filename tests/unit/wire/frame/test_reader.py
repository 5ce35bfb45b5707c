"""Frames of a stream: the same however it is cut, with a bounded memory, and an end at the first invalid one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.frame import Frame, FrameFlag, FrameReader, build, build_strict, parse, parse_strict

ONE, SUMMED, EMPTY = (
    build_strict(1, b"abc", 0, 1),
    build_strict(1, b"defg", FrameFlag.CHECKSUM, 2),
    build_strict(0, b""),
)
FRAMES = [parse_strict(one) for one in (ONE, SUMMED, EMPTY)]
STREAM = ONE + SUMMED + EMPTY


def read(pieces: list[bytes], **options: bool) -> tuple[list[Frame], str, int]:
    reader = FrameReader(**options)
    frames = [frame for piece in pieces for frame in reader.feed(piece)]
    return frames, str(reader.end() or ""), reader.offset


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [*sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def test_frames_come_as_soon_as_they_are_whole() -> None:
    reader = FrameReader()
    found = [(at, frame) for at, byte in enumerate(STREAM) for frame in reader.feed(bytes((byte,)))]
    assert found == [(10, FRAMES[0]), (24, FRAMES[1]), (32, FRAMES[2])]
    assert (reader.end(), reader.offset) == (None, len(STREAM))


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
def test_a_stream_cut_at_any_byte_has_the_same_frames(place: int) -> None:
    assert read([STREAM[:place], STREAM[place:]]) == (FRAMES, "", len(STREAM))


def test_the_largest_frame_is_read_byte_by_byte_and_no_more_is_kept() -> None:
    largest, reader = build_strict(1, bytes(65_527)), FrameReader()
    for byte in largest[:-1]:
        assert reader.feed(bytes((byte,))) == []
    assert repr(reader) == "<FrameReader at offset 0, 65534 of 65535 bytes>"
    assert len(reader.feed(largest[-1:] + ONE)) == 2
    assert repr(reader) == "<FrameReader at offset 65546, 0 of 8 bytes>"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"\x20" + ONE[1:8], "unknown version at offset 33: wanted 1, got 2"),
        (b"\x1f" + ONE[1:8], "unknown type at offset 33: wanted 0 (control) or 1 (data), got 15"),
        (b"\x11\x40" + ONE[2:8], "reserved flags at offset 34: wanted no flag but 0x01, got 0x40"),
        (
            b"\x11\x00\x00\x00" + bytes(4),
            "length below header at offset 35: wanted at least 8, since the header counts, got 0",
        ),
        (SUMMED[:-1] + b"!", "bad checksum at offset 45: wanted 0x2422, got 0x2421"),
        (ONE[:5], "short header at offset 38: wanted a header of 8 bytes, got 5"),
        (ONE[:10], "length beyond data at offset 43: wanted 11 bytes, as the length says, got 10"),
    ],
)
def test_an_invalid_frame_ends_the_stream_and_keeps_what_was_before(bad: bytes, message: str) -> None:
    for pieces in ([STREAM + bad], [STREAM, bad], [*map(bytes, zip(STREAM + bad, strict=True))]):
        assert read(pieces) == (FRAMES, message, len(STREAM))


def test_after_an_error_bytes_are_dropped() -> None:
    reader = FrameReader()
    assert reader.feed(b"GET / HTTP/1.1\r\n") == []
    assert repr(reader) == "<FrameReader at offset 0, failed: unknown version>"
    assert reader.feed(ONE) == []
    assert str(reader.end()) == "unknown version at offset 0: wanted 1, got 4"
    assert len(FrameReader().feed(ONE)) == 1


def test_a_maximum_bounds_what_is_kept() -> None:
    assert len(FrameReader(max_length=11).feed(ONE)) == 1
    reader = FrameReader(max_length=10)
    assert reader.feed(ONE[:8]) == []
    assert str(reader.error) == "payload over the maximum at offset 2: wanted a length of at most 10, got 11"


@pytest.mark.parametrize("length", [7, 65_536])
def test_a_maximum_that_no_frame_can_have_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"^max_length: wanted 8 to 65535, got {length}$"):
        FrameReader(max_length=length)


def test_without_strict_mode_only_the_length_counts() -> None:
    odd = b"\xff\xff\x00\x09" + bytes(4) + b"x"
    assert read([odd, SUMMED], strict=False) == ([parse(odd), parse(SUMMED)], "", 23)
    below = "length below header at offset 11: wanted at least 8, since the header counts, got 7"
    assert read([odd, b"\xff\xff\x00\x07" + bytes(4)], strict=False) == ([parse(odd)], below, 9)


valid = st.builds(build_strict, st.sampled_from([0, 1]), st.binary(max_size=30), st.sampled_from([0, 1]))
pieces_of = st.lists(st.integers(0, 2000), max_size=12)


@given(st.lists(valid, max_size=8), pieces_of)
def test_a_stream_of_frames_has_the_same_frames_however_it_is_cut(frames: list[bytes], places: list[int]) -> None:
    data = b"".join(frames)
    assert read(cut(data, places)) == ([parse_strict(one) for one in frames], "", len(data))


@given(st.lists(valid | st.binary(max_size=12), max_size=6), pieces_of, st.booleans())
def test_any_stream_has_the_same_frames_and_error_however_it_is_cut(
    parts: list[bytes], places: list[int], strict: bool
) -> None:
    data = b"".join(parts)
    assert read(cut(data, places), strict=strict) == read([data], strict=strict)


@given(st.lists(st.builds(build, st.integers(0, 15), st.binary(max_size=20), st.integers(0, 255)), max_size=5))
def test_without_strict_mode_every_frame_is_as_the_lesson_parses_it(frames: list[bytes]) -> None:
    assert read([b"".join(frames)], strict=False)[0] == [parse(one) for one in frames]
