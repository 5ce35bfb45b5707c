"""The plateau criterion: a leak is detected, and a warm-up, a peak or noise is not taken for one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.soak.plateau import Bound, Sample, growth

MIB = 1 << 20
BOUND = Bound(absolute=8 * MIB, share=0.1)
NOISE = random.Random(7)  # noqa: S311  # no secret


def samples(value: Callable[[int], float], seconds: int = 60) -> list[Sample]:
    return [Sample(second, value(second) * MIB) for second in range(seconds)]


@pytest.mark.parametrize(
    "value",
    [
        lambda second: 60,
        lambda second: 60 + min(second, 18) * 2,
        lambda second: 60 + 40 * (second in (25, 26, 50)),
        lambda second: 60 + NOISE.uniform(-5, 5),
        lambda second: 60 + 0.1 * second,
        lambda second: 90 - 0.5 * second,
    ],
    ids=["level", "warm-up", "peaks", "noise", "less than the bound", "shrinking"],
)
def test_a_quantity_at_its_plateau_passes(value: Callable[[int], float]) -> None:
    taken = samples(value)
    found = growth(taken)
    assert found is not None
    assert found <= BOUND.allows(taken)


@pytest.mark.parametrize(
    "value",
    [
        lambda second: 60 + 0.5 * second,
        lambda second: 60 + 0.5 * second + NOISE.uniform(-5, 5),
        lambda second: 60 + max(0, second - 20) ** 2 / 30,
    ],
    ids=["leak", "leak in noise", "growing leak"],
)
def test_a_leak_is_detected(value: Callable[[int], float]) -> None:
    taken = samples(value)
    found = growth(taken)
    assert found is not None
    assert found > BOUND.allows(taken)


def test_a_process_that_lived_too_briefly_is_not_judged() -> None:
    assert growth(samples(lambda second: second, 11)) is None
    assert growth([]) is None


def test_a_long_life_is_judged_by_a_part_of_its_samples() -> None:
    found = growth(samples(lambda second: second / 10, 3_600))
    assert found == pytest.approx(240 * MIB, rel=0.01)
