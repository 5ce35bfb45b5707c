"""When one SVID is renewed, retries after failures, and the effect of a clock that is set back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from meshtls.identity.schedule import Schedule
from tests.support.authority import make_authority, svid_for
from tests.support.certs import NOW
from tests.support.clock import ManualClock

AUTHORITY = make_authority("example.org", ManualClock(NOW))


def schedule(life: float) -> Schedule:
    """The schedule of an SVID with this lifetime in seconds from NOW."""
    return Schedule.of(svid_for(AUTHORITY, "/web", ttl=timedelta(seconds=life)), NOW, 0.0)


def attempts(start: Schedule, until: float) -> list[float]:
    """The seconds of the attempts if every attempt fails."""
    state, seconds = start, []
    while (second := (state.due - NOW).total_seconds()) <= until:
        seconds.append(second)
        state = state.failed(state.due, "no server", 0.0)
    return seconds


@pytest.mark.parametrize(
    ("life", "until", "seconds"),
    [
        (2, 5, [1, 1.5, 1.75, 2, 3, 4, 5]),
        (4, 7, [2, 3, 3.5, 3.75, 4, 5, 6, 7]),
        (20, 23, [10, 11, 13, 16.5, 18.25, 19.125, 19.5625, 19.8125, 20.0625, 21.0625, 22.0625]),
        (3600, 1900, [1800, 1801, 1803, 1807, 1815, 1831, 1861, 1891]),
    ],
)
def test_failures_are_retried_by_the_backoff_sooner_before_expiry_and_every_second_after_it(
    life: float, until: float, seconds: list[float]
) -> None:
    assert attempts(schedule(life), until) == pytest.approx(seconds)


def test_a_failure_is_reported_with_its_start_its_reason_and_the_next_attempt() -> None:
    first = schedule(3600)
    half = NOW + timedelta(seconds=1800)
    again = first.failed(half, "no server", 0.0)
    assert (again.failures, again.failing_since, again.last_error) == (1, half, "no server")
    assert again.due == half + timedelta(seconds=1)
    last = again.failed(again.due, "refused", 0.0)
    assert (last.failures, last.failing_since, last.last_error) == (2, half, "refused")
    assert last.due == again.due + timedelta(seconds=2)
    assert (last.received, last.not_after) == (first.received, first.not_after)
    assert (first.failures, first.failing_since, first.last_error) == (0, None, None)


@pytest.mark.parametrize(("patient", "wait"), [(True, 30), (False, 1)])
def test_a_refusal_that_time_does_not_mend_waits_for_the_whole_backoff(patient: bool, wait: float) -> None:
    state, now = schedule(20), NOW + timedelta(seconds=18)
    for _ in range(8):
        state = state.failed(now, "refused", 0.0, ignore_expiry=patient)
    assert state.due - now == timedelta(seconds=wait)


@pytest.mark.parametrize(("seconds", "set_back"), [(0, False), (10, False), (11, True), (86_400, True)])
def test_an_svid_that_is_not_valid_yet_after_the_clock_was_set_back_is_due_at_once(
    seconds: float, set_back: bool
) -> None:
    state, now = schedule(3600), NOW - timedelta(seconds=seconds)
    assert state.due_at(now) == (now if set_back else NOW + timedelta(seconds=1800))


@pytest.mark.parametrize(("seconds", "set_back"), [(0, False), (20, False), (86_400, True)])
def test_a_retry_that_a_clock_set_back_has_put_far_ahead_is_due_at_once(seconds: float, set_back: bool) -> None:
    state = Schedule(NOW).failed(NOW, "no server", 0.0)
    now = NOW - timedelta(seconds=seconds)
    assert state.due_at(now) == (now if set_back else NOW + timedelta(seconds=1))
