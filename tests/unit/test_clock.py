"""The tests' own clock: a sleep counts from its call, whenever its task first runs."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import ManualClock


@pytest.mark.parametrize("before_it_runs", [True, False])
async def test_a_sleep_counts_from_the_call(before_it_runs: bool) -> None:
    clock = ManualClock()
    sleeping = asyncio.create_task(clock.sleep(10))
    if before_it_runs:
        clock.advance(9)
    else:
        await clock.until_sleepers()
        clock.advance(9)
    await asyncio.sleep(0)
    assert (clock.wakes_in, sleeping.done()) == ((1.0,), False)
    clock.advance(1)
    await sleeping


async def test_a_sleep_whose_time_came_before_its_task_ran_ends_at_once() -> None:
    clock = ManualClock()
    sleeping = asyncio.create_task(clock.sleep(10))
    clock.advance(11)
    await sleeping
    assert clock.wakes_in == ()
