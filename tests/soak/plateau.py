"""Whether a quantity of a process has reached a plateau. Pure.

The first third of a process's life is its warm-up. Over the rest the slope is the median of the slopes between all
pairs of samples (Theil and Sen), which a leak changes, but not a peak, or a sample that was late on a busy machine. The
growth is that slope times the judged time. A process that lived shorter than ``LEAST_S`` seconds is not judged; a
separate check ensures that the longest life of each process is long enough.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["LEAST_S", "Bound", "Sample", "growth"]

LEAST_S = 12.0
_LEAST_SAMPLES = 6
_MOST_SAMPLES = 240  # of which there are 28,680 pairs


@dataclass(frozen=True, slots=True)
class Sample:
    """``seconds`` since the start of the process."""

    seconds: float
    value: float


@dataclass(frozen=True, slots=True)
class Bound:
    """Growth up to the larger of these two is permitted: ``absolute``, and this share of the median."""

    absolute: float
    share: float

    def allows(self, samples: Sequence[Sample]) -> float:
        """The growth that is allowed to these samples."""
        return max(self.absolute, self.share * statistics.median(sample.value for sample in samples))


def growth(samples: Sequence[Sample]) -> float | None:
    """The growth of the value after the warm-up; None if there are too few samples."""
    if not samples or samples[-1].seconds - samples[0].seconds < LEAST_S:
        return None
    begin = samples[0].seconds + (samples[-1].seconds - samples[0].seconds) / 3
    judged = [sample for sample in samples if sample.seconds >= begin]
    if len(judged) < _LEAST_SAMPLES:
        return None
    thinned = judged[:: -(-len(judged) // _MOST_SAMPLES)]
    slopes = [
        (b.value - a.value) / (b.seconds - a.seconds) for a, b in combinations(thinned, 2) if b.seconds > a.seconds
    ]
    return statistics.median(slopes) * (judged[-1].seconds - judged[0].seconds)
