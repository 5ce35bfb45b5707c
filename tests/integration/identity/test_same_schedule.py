"""All four holders renew their SVIDs at the same seconds, for lives of 2 s to 1 h, and through an outage."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.integration.identity.holders import HOLDERS, Holder, Plan, clock_for
from tests.support.clock import ManualClock

pytestmark = pytest.mark.timeout(60)

Held = Callable[[Plan, ManualClock, Path], AbstractAsyncContextManager[Holder]]


async def renewals(held: Held, plan: Plan, until: float, directory: Path) -> list[float]:
    """The seconds at which there was a new SVID."""
    clock = clock_for(plan)
    seconds: list[float] = []
    async with held(plan, clock, directory) as holder:
        await clock.until_sleepers()
        for switch, failing in ((plan.fails, True), (plan.works, False), (until, None)):
            await _pass_time(holder, min(switch, until), seconds)
            if switch < until:
                done = holder.failing(bool(failing))
                if inspect.isawaitable(done):
                    await done
    return seconds


async def _pass_time(holder: Holder, until: float, seconds: list[float]) -> None:
    clock = holder.clock
    while (left := until - clock.monotonic()) > 0:
        before, step = holder.present(), min(left, clock.wakes_in[0])
        for moved in (*holder.also_moves, clock):
            moved.advance(step)
        await clock.until_sleepers()
        if holder.present() != before:
            seconds.append(clock.monotonic())


@pytest.mark.parametrize("held", HOLDERS)
@pytest.mark.parametrize(
    ("plan", "until", "wanted"),
    [
        (Plan(2, start=8), 2.5, [1, 2]),
        (Plan(4, start=7), 5, [2, 4]),
        (Plan(20, start=-1), 25, [10, 20]),
        (Plan(3600, start=-1791), 2700, [1800]),
        # Attempts at 20, 21, 23, 27 and 33.5 fail; by the backoff alone the next one comes after the end, at 40.
        (Plan(40, start=-28, fails=19, works=35), 57, [36.75, 56.375]),
        # Attempts at 2, 3, 3.5, 3.75, 4, 5 and 6 fail, the last three after the end.
        (Plan(4, start=3, fails=1, works=6.5), 9.5, [7, 9]),
    ],
    ids=["2 s", "4 s", "20 s", "1 h", "recovery before the end", "recovery after the end"],
)
async def test_each_holder_renews_at_half_life_and_retries_alike(
    held: Held, plan: Plan, until: float, wanted: list[float], tmp_path: Path
) -> None:
    assert await renewals(held, plan, until, tmp_path) == wanted
