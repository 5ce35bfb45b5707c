"""The renewal loop on the test's own clock, over a real authority."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from meshtls.errors import LocalIdentityError, StoreError
from meshtls.identity.renewal import RenewalLoop, SvidRenewal
from meshtls.svid.x509 import X509Svid, format_moment
from meshtls.workload.background import in_background
from tests.support.agent import eventually
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock

LOG = logging.getLogger("meshtls.test")


class Holder:
    """Renews one SVID with this lifetime; ``made`` has the clock's seconds of each renewal."""

    def __init__(self, life: float) -> None:
        self.clock = ManualClock()
        self.error: Exception | None = None
        self.made: list[float] = []
        self.asked = 0
        self._authority = make_authority(clock=self.clock)
        self._life = timedelta(seconds=life)
        self.renewal = SvidRenewal(self._make, self.clock, lambda: 0.0, LOG)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.renewal.renew()
        async with in_background(self.renewal.run(), "renew"):
            await self.clock.until_sleepers()
            yield

    async def run_until(self, seconds: float) -> None:
        """Advance the clock from one sleeper to the next."""
        while (left := seconds - self.clock.monotonic()) > 0:
            self.clock.advance(min(left, self.clock.wakes_in[0]))
            await self.clock.until_sleepers()

    async def until_planned(self, seconds: float) -> None:
        """Wait until the loop, after ``wake``, sleeps for this long."""
        await eventually(lambda: self.clock.wakes_in == (seconds,))

    async def _make(self) -> X509Svid:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.made.append(self.clock.monotonic())
        return svid_for(self._authority, "/web", ttl=self._life)


def moment(holder: Holder, seconds: float) -> datetime:
    return holder.clock.now() + timedelta(seconds=seconds)


@pytest.mark.parametrize("life", [2, 4, 20, 3600])
async def test_an_svid_is_renewed_at_half_of_each_life(life: float) -> None:
    holder = Holder(life)
    async with holder.running():
        await holder.run_until(2 * life)
    assert holder.made == [0, life / 2, life, life * 1.5, 2 * life]


async def test_a_failing_renewal_is_tried_again_until_it_works_and_then_goes_on_at_half_life() -> None:
    holder = Holder(4)
    async with holder.running():
        holder.error = LocalIdentityError("no CA answers")
        await holder.run_until(6.5)
        assert holder.asked == 1 + len([2, 3, 3.5, 3.75, 4, 5, 6])
        holder.error = None
        await holder.run_until(9.5)
    assert holder.made == [0, 7, 9]


async def test_an_outage_is_logged_when_it_begins_when_its_cause_changes_when_the_svid_expires_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    holder = Holder(20)
    start, end = format_moment(moment(holder, 10)), format_moment(moment(holder, 20))
    again = [format_moment(moment(holder, seconds)) for seconds in (11, 16, 21)]
    web = "SVID spiffe://example.org/web"
    async with holder.running():
        holder.error = LocalIdentityError("no CA answers")
        await holder.run_until(12)
        holder.error = StoreError("the disk is full")
        await holder.run_until(25)
        holder.error = None
        await holder.run_until(27)
    assert caplog.messages == [
        f"{web}: renewal failed: no CA answers; the present one is valid until {end}; next attempt at {again[0]}",
        f"{web}: renewal failed: the disk is full; the present one is valid until {end}; next attempt at {again[1]}"
        " (2 earlier failures with another cause)",
        f"{web}: renewal failed: the disk is full; the present one expired at {end}; next attempt at {again[2]}"
        " (8 earlier failures with another cause)",
        f"{web}: renewal works again after 13 failures since {start}",
    ]


async def test_the_schedule_holds_the_first_failure_the_latest_error_and_the_next_attempt() -> None:
    holder = Holder(20)
    start = holder.clock.now()
    async with holder.running():
        holder.error = LocalIdentityError("no CA answers")
        await holder.run_until(12)
        state = holder.renewal.schedule
        assert state is not None
        assert (state.failures, state.last_error) == (2, "no CA answers")
        assert state.failing_since == start + timedelta(seconds=10)
        assert state.due == start + timedelta(seconds=13)
        assert repr(holder.renewal) == (
            f"<SvidRenewal spiffe://example.org/web [due {format_moment(state.due)}, 2 failures]>"
        )


async def test_a_first_svid_that_cannot_be_had_leaves_nothing_to_renew() -> None:
    holder = Holder(4)
    holder.error = LocalIdentityError("no CA answers")
    with pytest.raises(LocalIdentityError, match="no CA answers"):
        await holder.renewal.renew()
    assert holder.renewal.schedule is None
    assert repr(holder.renewal) == "<SvidRenewal [no SVID]>"


async def test_a_lost_svid_is_not_renewed_until_another_replaces_it() -> None:
    holder = Holder(4)
    async with holder.running():
        holder.renewal.lost()
        await holder.until_planned(30)
        await holder.run_until(40)
        assert holder.asked == 1
        holder.renewal.replaced(svid_for(make_authority(clock=holder.clock), "/web", ttl=timedelta(seconds=4)))
        await holder.until_planned(2)
        await holder.run_until(42)
    assert holder.made == [0, 42]


async def test_an_svid_from_before_a_restart_is_renewed_early() -> None:
    holder = Holder(4)
    kept = await holder._make()
    holder.clock.advance(1)
    holder.renewal.replaced(kept, kept.not_before)
    async with in_background(holder.renewal.run(), "renew"):
        await holder.clock.until_sleepers()
        await holder.run_until(5)
    assert holder.made == [0, 1, 3, 5]


async def test_a_renewal_requested_meanwhile_is_not_done_twice() -> None:
    holder = Holder(4)
    async with holder.running():
        await holder.run_until(1)
        await holder.renewal.renew()
        await holder.until_planned(2)
        await holder.run_until(3)
    assert holder.made == [0, 1, 3]


async def test_a_bug_in_the_work_ends_the_loop_and_is_seen() -> None:
    holder = Holder(4)

    async def body() -> None:
        async with holder.running():
            holder.error = ZeroDivisionError("a bug")
            holder.clock.advance(2)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await body()
    assert [repr(error) for error in raised.value.exceptions] == ["ZeroDivisionError('a bug')"]


async def test_a_loop_with_nothing_due_looks_at_the_wall_clock_every_30_seconds_and_can_be_woken() -> None:
    clock = ManualClock()
    asked: list[float] = []
    renewed = asyncio.Event()
    when: datetime | None = None

    def due(now: datetime) -> datetime | None:
        asked.append(clock.monotonic())
        return when

    async def renew() -> None:
        nonlocal when
        when = None
        renewed.set()

    loop = RenewalLoop(clock)
    async with in_background(loop.run(due, renew), "renew"):
        await clock.until_sleepers()
        assert clock.wakes_in == (30.0,)
        clock.advance(30)
        await clock.until_sleepers()
        assert asked == [0, 30]
        when = clock.now()
        loop.wake()
        await renewed.wait()
