"""A wall clock that is set forward is doubted for an hour."""

from __future__ import annotations

import pytest

from meshtls.server.clock_jumps import ClockJumps
from tests.support.clock import ManualClock

HOUR, DAY = 3600.0, 86400.0


def test_time_that_passes_is_never_in_doubt() -> None:
    clock = ManualClock()
    jumps = ClockJumps(clock)
    for seconds in (1, HOUR, 400 * DAY):
        clock.advance(seconds)
        assert not jumps.is_in_doubt()


@pytest.mark.parametrize(("ahead", "in_doubt"), [(HOUR - 1, False), (HOUR, True), (400 * DAY, True), (-DAY, False)])
def test_a_clock_is_in_doubt_where_it_was_set_forward_by_an_hour(ahead: float, in_doubt: bool) -> None:
    clock = ManualClock()
    jumps = ClockJumps(clock)
    clock.set_back(-ahead)
    assert jumps.is_in_doubt() is in_doubt


def test_a_clock_that_stays_ahead_is_trusted_after_an_hour_and_its_next_jump_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    jumps = ClockJumps(clock)
    clock.set_back(-DAY)
    assert jumps.is_in_doubt()
    clock.advance(HOUR - 1)
    assert jumps.is_in_doubt()
    clock.advance(1)
    assert not jumps.is_in_doubt()
    assert [record.getMessage() for record in caplog.records] == [
        "the clock was set forward by 1 day, 0:00:00: no authority expires and no key is deleted within an hour;"
        " if it is wrong, set it right by then"
    ]
    clock.set_back(-DAY)
    assert jumps.is_in_doubt()


def test_a_clock_that_is_set_right_again_is_trusted_at_once() -> None:
    clock = ManualClock()
    jumps = ClockJumps(clock)
    clock.set_back(-DAY)
    assert jumps.is_in_doubt()
    clock.set_back(DAY)
    assert not jumps.is_in_doubt()
