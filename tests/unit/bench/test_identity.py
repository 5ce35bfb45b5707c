"""The identity benchmark: every part completes on a tiny scale; durations are not asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.identity.cli import PARTS, measure, plain
from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError, latencies, quantile

TINY = Scale(
    mint_rounds=1,
    mint_batch=3,
    mint_seconds=0.2,
    arrivals=2,
    workloads=3,
    entries=(200,),
    listeners=2,
    changes=2,
    log_leaves=2000,
    sidecars=2,
    live_connections=4,
    revocations=2,
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", PARTS)
async def test_each_part_gives_figures_and_says_what_it_does(part: str) -> None:
    said: list[str] = []
    report = await measure(TINY, said.append, {part: PARTS[part]})
    assert report.failed == {}
    assert said[0] == f"== {part}"
    assert len(said) > 1
    names = [(one.part, one.name) for one in report.figures]
    assert names
    assert len(set(names)) == len(names)
    assert [one for one in report.figures if not one.value > 0] == []


async def test_a_part_that_fails_is_named_and_the_others_go_on() -> None:
    async def fails(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
        raise UnmeasuredError("it broke")

    async def works(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
        return [Figure("works", "answer", 42.0, "ms", "so it is")]

    report = await measure(TINY, lambda _: None, {"fails": fails, "works": works})
    assert report.failed == {"fails": "it broke"}
    first, second, _ = plain(report).splitlines()
    assert first.split() == ["works", "answer", "42", "ms", "so", "it", "is"]
    assert second == "not measured: fails: it broke"


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), ([float(n) for n in range(100)], 0.99, 99.0)],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_a_quantile_of_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="wanted at least one value, got none"):
        quantile([], 0.5)


def test_latencies_are_printed_in_milliseconds() -> None:
    found = [(one.name, one.value, one.unit) for one in latencies("part", "there", [0.5, 0.25, 1.0])]
    assert found == [("there, p50", 500.0, "ms"), ("there, p99", 1000.0, "ms")]
