"""What is computed from measurements of captures: medians with their confidence, and what a line carries. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Median", "line_rate", "median_of"]

#: Of an Ethernet frame on the line: the least size without the check sequence, that sequence, the preamble with the
#: start delimiter, and the gap between two frames (IEEE 802.3, clauses 3 and 4).
_LEAST, _CHECK, _PREAMBLE, _GAP = 60, 4, 8, 12
_CONFIDENCE = 0.95


class Median(NamedTuple):
    """The median of measurements, and the interval that has the true one in it with ``confidence``.

    The interval is between two measurements, and so does not depend on how they are distributed. Fewer than six can't
    have a confidence of 95 %: then it is from the least to the greatest of them.
    """

    value: float
    low: float
    high: float
    confidence: float


def median_of(values: Sequence[float]) -> Median:
    """The median of at least one measurement."""
    ordered, count = sorted(values), len(values)
    outside = 0
    while 2 * (outside + 1) < count and _confidence(count, outside + 1) >= _CONFIDENCE:
        outside += 1
    return Median(
        statistics.median(ordered), ordered[outside], ordered[count - 1 - outside], _confidence(count, outside)
    )


def _confidence(count: int, outside: int) -> float:
    """How likely the true median is between the measurements, without so many at each end."""
    beyond = sum(math.comb(count, least) for least in range(outside + 1))
    return max(0.0, 1 - beyond / (1 << (count - 1)))


def line_rate(sizes: Mapping[int, int], gigabits: float) -> float:
    """Frames per second of a line that is full of frames of these sizes, which are without the check sequence."""
    on_the_line = sum((max(size, _LEAST) + _CHECK + _PREAMBLE + _GAP) * count for size, count in sizes.items())
    return gigabits * 1e9 * sum(sizes.values()) / (8 * on_the_line)
