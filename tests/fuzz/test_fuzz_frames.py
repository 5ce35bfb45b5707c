"""Fuzz targets for the lesson's packets: one frame, streams, buffers of frames, and hex as it is typed or dumped."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from meshtls.errors import RequestError
from meshtls.wire.frame import (
    Frame,
    FrameError,
    FrameReader,
    build,
    build_strict,
    checksum,
    frame_fields,
    headers,
    parse,
    parse_many,
    parse_strict,
    problems_of,
)
from meshtls.wire.hex_text import parse_hex
from meshtls.wire.tls.explained import tls_fields
from tests.fuzz.running import documented, fuzzed, spliced

PLAIN, SUMMED = build_strict(1, b"hello", 0, 42), build_strict(1, b"hello", 1, 42)
SAMPLES = [PLAIN, SUMMED, build_strict(0, b""), PLAIN * 3 + SUMMED, build(15, bytes(300), 255, 2**32 - 1)]
frames = spliced(SAMPLES) | st.binary(max_size=40)


def test_any_bytes_are_a_frame_or_a_refusal() -> None:
    def target(data: bytes) -> None:
        size = len(data)
        frame = documented(lambda: parse(data), FrameError, size=size)
        strict = documented(lambda: parse_strict(data), FrameError, size=size)
        tree = documented(lambda: frame_fields(data), size=size)
        problems = documented(lambda: list(problems_of(data)), size=size)
        assert (frame is None) == (size < 8)
        assert (strict is None) == bool(problems)
        assert tree is not None
        assert sum(leaf.length for leaf in tree.leaves()) == size
        assert bool(problems) == bool(list(tree.errors()))
        assert 0 <= checksum(data) <= 0xFFFF
        if strict is not None:
            assert build_strict(strict.type, bytes(strict.payload), strict.flags, strict.id) == data

    fuzzed(target, frames)


def test_streams_of_frames() -> None:
    def target(parts: list[bytes], sizes: list[int], strict: bool, most: int) -> None:
        data = b"".join(parts)

        def read(pieces: list[bytes]) -> tuple[list[Frame], str, int]:
            reader, found = FrameReader(strict=strict, max_length=most), []
            for piece in pieces:
                found += reader.feed(piece)
            return found, str(reader.end()), reader.offset

        pieces, rest = [], data
        for length in sizes:
            pieces.append(rest[:length])
            rest = rest[length:]
        whole = documented(partial(read, [data]), size=len(data))
        assert whole == documented(partial(read, [*pieces, rest]), size=len(data) + len(pieces))

    fuzzed(
        target, st.lists(frames, max_size=6), st.lists(st.integers(0, 30), max_size=20), st.booleans(),
        st.integers(8, 40) | st.just(65_535),
    )  # fmt: skip


def test_buffers_of_frames() -> None:
    def target(parts: list[bytes]) -> None:
        data = b"".join(parts)
        found = documented(lambda: parse_many(data), size=len(data))
        assert found is not None
        listed = documented(lambda: list(found), size=len(data))
        assert listed == [parse(data[at:]) for at in found.offsets]
        documented(lambda: list(headers(data)), FrameError, size=len(data))
        reader = FrameReader(strict=False)
        assert reader.feed(data) == listed
        assert (reader.error is None) == (found.error is None)

    fuzzed(target, st.lists(frames, max_size=8))


def test_any_bytes_of_one_side_of_tls_are_fields() -> None:
    samples = [
        bytes.fromhex("15030300020228 1403030001 01 1703030003 616263"),
        b"\x16\x03\x01\x00\x0c\x01\x00\x00\x02\x03\x03\x0e\x00\x00\x00\x14\x00" + b"\x16\x03\x03\x00\x02\x00\x10",
    ]

    def target(data: bytes) -> None:
        tree = documented(lambda: tls_fields(data), size=len(data), per_byte=400)
        assert tree is not None
        assert b"".join(data[leaf.offset : leaf.end] for leaf in tree.leaves()) == data

    fuzzed(target, spliced(samples) | st.binary(max_size=40))


def test_hex() -> None:
    dumps = [
        b"00000000: 1100 000d 0000 002a 6865 6c6c 6f         .......*hello\n",
        b"00000000  11 00 00 0d 00 00 00 2a  68 65 6c 6c 6f           |.......*hello|\n0000000d\n",
        b"07:30:00 IP 127.0.0.1.1 > 127.0.0.1.2: UDP\n\t0x0000:  1100 000d\n\t0x0004:  0000\n",
        b"0x11, 0x00, \\x00\\x0d 00:00:00:2a 68656c6c6f",
    ]

    def target(text: bytes) -> None:
        data = documented(lambda: parse_hex(text.decode("latin-1")), RequestError, size=len(text))
        if data is not None:
            assert 2 * len(data) <= len(text)
            assert parse_hex(data.hex()) == parse_hex(data.hex(" ")) == data

    fuzzed(target, spliced(dumps) | st.binary(max_size=40))
