"""Reading the frames of a buffer, beside ``struct.unpack_from`` alone in a loop."""

from __future__ import annotations

import random
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from meshtls.wire.frame import FrameReader, build, build_strict, headers, parse, parse_many, parse_strict

__all__ = ["BARE", "SIZES", "FrameCost", "frame_costs"]

#: The baseline: one call of a compiled ``Struct`` for each frame, whose length leads to the next; nothing is kept.
BARE = "struct.unpack_from in a loop"
#: Payloads in bytes: all of one size, and a mix of small and large ones, as requests and their answers have.
SIZES: dict[str, Callable[[random.Random], int]] = {
    "64": lambda _: 64,
    "0 to 1,400": lambda choice: choice.choice((0, 16, 40, 64, 100, 400, 1400, choice.randrange(1400))),
}
#: About as many bytes as one receive has.
_BUFFER = 64 << 10
_HEADER = struct.Struct("!BBHI")


class FrameCost(NamedTuple):
    """CPU-ns of one frame, and bytes of a frame on average. ``payloads`` is a key of SIZES."""

    way: str
    payloads: str
    nanoseconds: float
    frame_bytes: float


def frame_costs(seconds: float) -> list[FrameCost]:
    """Each way over each mix, with this many CPU seconds for each figure. The ways take turns."""
    found: list[FrameCost] = []
    for name, size_of in SIZES.items():
        frames = _frames(size_of)
        ways = _ways(frames)
        least = dict.fromkeys(ways, float("inf"))
        end = time.process_time() + seconds * len(ways)
        while time.process_time() < end:
            for way, run in ways.items():
                start = time.process_time_ns()
                for _ in range(5):
                    run()
                least[way] = min(least[way], (time.process_time_ns() - start) / 5)
        mean = sum(map(len, frames)) / len(frames)
        found += [FrameCost(way, name, spent / len(frames), mean) for way, spent in least.items()]
    return found


def _frames(size_of: Callable[[random.Random], int]) -> list[bytes]:
    choice, found, size = random.Random(13), list[bytes](), 0  # noqa: S311  # the same frames in each run
    while size < _BUFFER:
        found.append(build_strict(1, choice.randbytes(size_of(choice)), 0, len(found)))
        size += len(found[-1])
    return found


def _ways(frames: list[bytes]) -> dict[str, Callable[[], object]]:
    data = b"".join(frames)
    return {
        BARE: lambda: _bare(data),
        "headers: all fields, in a loop": lambda: deque(headers(data), maxlen=0),
        "parse_many: offsets and lengths": lambda: parse_many(data).lengths,
        "parse_many: all columns of the header": lambda: _columns(data),
        "parse_many: frames with payloads": lambda: deque(parse_many(data), maxlen=0),
        "parse: one frame with its payload": lambda: _each(parse, frames),
        "parse_strict: the same, checked": lambda: _each(parse_strict, frames),
        "FrameReader: a stream, checked": lambda: FrameReader().feed(data),
        "build": lambda: _built(frames),
    }


def _bare(data: bytes) -> None:
    at, size, unpack_from = 0, len(data), _HEADER.unpack_from
    while at < size:
        _, _, length, _ = unpack_from(data, at)
        at += length


def _columns(data: bytes) -> object:
    found = parse_many(data)
    return found.versions, found.types, found.flags, found.lengths, found.ids


def _each(read: Callable[[bytes], object], frames: list[bytes]) -> None:
    for frame in frames:
        read(frame)


def _built(frames: list[bytes]) -> None:
    for frame in frames:
        build(1, frame)
