"""Cutting a byte stream into frames: independent of how it is split, and with little of it buffered."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtls.wire.http2.frames import (
    MAX_CONTROL,
    ErrorCode,
    Frame,
    FrameReader,
    Kind,
    ProtocolError,
    frame,
    goaway_frame,
)

KINDS = st.sampled_from(list(Kind))
FRAMES = st.lists(
    st.tuples(KINDS, st.integers(0, 255), st.integers(0, (1 << 31) - 1), st.binary(max_size=300)), max_size=12
)
CUTS = st.lists(st.integers(0, 4000), max_size=30)


def joined(frames: list[Frame]) -> list[tuple[int, int, int, bytes, int]]:
    """Pieces of one DATA frame put together again."""
    whole: list[tuple[int, int, int, bytes, int]] = []
    for kind, flags, number, payload, length in frames:
        if whole and whole[-1][0] == kind == 0 and whole[-1][2] == number and not whole[-1][1] & 1:
            last = whole.pop()
            whole.append((0, flags, number, last[3] + bytes(payload), last[4] + length))
        else:
            whole.append((kind, flags, number, bytes(payload), length))
    return whole


def pieces(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    return [wire[start:stop] for start, stop in pairwise(places)]


@given(FRAMES, CUTS)
@settings(deadline=None)
def test_frames_cut_anywhere_come_out_the_same(wanted: list[tuple[Kind, int, int, bytes]], cuts: list[int]) -> None:
    # END_STREAM on all DATA, so that the pieces of two frames are never taken for those of one.
    wanted = [(kind, flags | (not kind), number, payload) for kind, flags, number, payload in wanted]
    wire = b"".join(frame(*one) for one in wanted)
    reader = FrameReader(1 << 14)
    found: list[Frame] = []
    for piece in pieces(wire, cuts):
        found += [
            (kind, flags, number, bytes(payload), length)
            for kind, flags, number, payload, length in reader.feed(memoryview(piece))
        ]
    assert joined(found) == [(*one, len(one[3])) for one in wanted]


def test_a_large_frame_of_data_is_passed_on_as_it_comes_and_not_kept() -> None:
    reader, payload = FrameReader(1 << 18), os.urandom(1 << 18)
    wire = memoryview(frame(Kind.DATA, 1, 5, payload))
    found = [one for start in range(0, len(wire), 1000) for one in reader.feed(wire[start : start + 1000])]
    assert b"".join(bytes(one[3]) for one in found) == payload
    assert [one[1] for one in found] == [0] * (len(found) - 1) + [1], "END_STREAM comes with the last piece alone"
    assert not reader._held


def test_at_most_one_other_frame_is_buffered() -> None:
    reader = FrameReader(1 << 18)
    for byte in frame(Kind.HEADERS, 4, 1, bytes(MAX_CONTROL))[:-1]:
        assert reader.feed(bytes((byte,))) == []
        assert len(reader._held) <= MAX_CONTROL + 9
    assert len(reader.feed(b"\0")) == 1


@pytest.mark.parametrize(
    ("kind", "limit"), [(Kind.DATA, 1 << 18), (Kind.HEADERS, MAX_CONTROL), (Kind.PING, MAX_CONTROL)]
)
def test_a_frame_of_the_limit_passes_and_one_byte_more_does_not(kind: Kind, limit: int) -> None:
    assert FrameReader(1 << 18).feed(frame(kind, 0, 1, bytes(limit)))[0][4] == limit
    with pytest.raises(ProtocolError, match=f"wanted a frame of at most {limit} bytes, got {limit + 1}"):
        FrameReader(1 << 18).feed(frame(kind, 0, 1, bytes(limit + 1)))


def test_the_reserved_bit_of_the_stream_is_ignored() -> None:
    wire = bytearray(frame(Kind.PING, 0, 0, bytes(8)))
    wire[5] |= 0x80
    assert FrameReader(1 << 14).feed(bytes(wire))[0][2] == 0


@pytest.mark.parametrize(("detail", "debug_data"), [("", b""), ("why", b"why"), ("x" * 300, b"x" * 256)])
def test_a_goaway_names_a_stream_and_a_code_and_its_debug_data_is_bounded(detail: str, debug_data: bytes) -> None:
    payload = b"\0\0\0\5" + b"\0\0\0\x0b" + debug_data
    assert goaway_frame(ErrorCode.ENHANCE_YOUR_CALM, 5, detail) == frame(Kind.GOAWAY, 0, 0, payload)
