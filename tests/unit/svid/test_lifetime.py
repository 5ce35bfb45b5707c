"""When to renew and when to try again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.svid.lifetime import backoff, next_rotation, overdue_at, retry_at
from tests.support.certs import NOW

HOUR = timedelta(hours=1)
JITTER = st.floats(-1, 1)
LIVES = st.timedeltas(timedelta(seconds=1), timedelta(days=3650))
LEAST = timedelta(milliseconds=250)


@pytest.mark.parametrize(
    ("life", "jitter", "wait"),
    [
        (3600, 0, 1800),
        (3600, 1, 1980),
        (3600, -1, 1620),
        (20, 0, 10),
        (4, 0, 2),
        (2, 0, 1),
        (1, 0, 0.5),
        (1, -1, 0.45),
        (0.4, 0, 0.25),
        (0, 0, 0.25),
        (-3600, 0, 0.25),
    ],
)
def test_renewal_is_at_half_life_give_or_take_a_tenth_and_250_ms_away_at_least(
    life: float, jitter: float, wait: float
) -> None:
    assert next_rotation(NOW, NOW + timedelta(seconds=life), jitter) == NOW + timedelta(seconds=wait)


@given(life=LIVES, jitter=JITTER)
def test_renewal_leaves_two_fifths_of_the_life_for_retries(life: timedelta, jitter: float) -> None:
    assert life * 0.44 <= next_rotation(NOW, NOW + life, jitter) - NOW <= life * 0.56


@given(life=LIVES, jitter=JITTER)
def test_an_svid_is_overdue_only_after_every_renewal_that_is_on_time(life: timedelta, jitter: float) -> None:
    assert next_rotation(NOW, NOW + life, jitter) < overdue_at(NOW, NOW + life) < NOW + life


def test_the_backoff_doubles_from_one_second_to_thirty() -> None:
    assert [backoff(attempt, 0) for attempt in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [backoff(attempt, 1) for attempt in (1, 10_000)] == [pytest.approx(1.1), pytest.approx(33)]


@given(st.integers(1, 10**9), JITTER)
def test_the_backoff_stays_within_its_bounds(attempt: int, jitter: float) -> None:
    assert 0.9 <= backoff(attempt, jitter) <= 33


@pytest.mark.parametrize(
    ("left", "attempt", "wait"),
    [
        (1800, 1, 1),
        (1800, 5, 16),
        (1800, 9, 30),
        (40, 9, 20),
        (2, 1, 1),
        (1, 1, 0.5),
        (0.5, 9, 0.25),
        (0.3, 9, 0.25),
        (0, 9, 1),
        (-3600, 9, 1),
    ],
)
def test_a_retry_comes_after_the_backoff_or_half_of_what_is_left_and_every_second_once_expired(
    left: float, attempt: int, wait: float
) -> None:
    assert retry_at(NOW, NOW + timedelta(seconds=left), attempt, 0.0) == NOW + timedelta(seconds=wait)


@given(left=st.timedeltas(LEAST * 1.01, HOUR), attempt=st.integers(1, 1000), jitter=JITTER)
def test_a_retry_comes_before_the_svid_expires(left: timedelta, attempt: int, jitter: float) -> None:
    wait = retry_at(NOW, NOW + left, attempt, jitter) - NOW
    assert LEAST <= wait < left


@given(left=st.timedeltas(timedelta(seconds=3), timedelta(minutes=2)), attempt=st.integers(1, 1000), jitter=JITTER)
def test_with_seconds_left_a_retry_waits_for_a_second_at_least(left: timedelta, attempt: int, jitter: float) -> None:
    wait = retry_at(NOW, NOW + left, attempt, jitter) - NOW
    assert timedelta(seconds=1) <= wait <= max(left / 2, timedelta(seconds=1.1))


@given(past=st.timedeltas(timedelta(0), timedelta(days=30)), attempt=st.integers(1, 1000), jitter=JITTER)
def test_renewal_is_tried_every_second_after_expiry(past: timedelta, attempt: int, jitter: float) -> None:
    wait = retry_at(NOW, NOW - past, attempt, jitter) - NOW
    assert wait == timedelta(seconds=max(backoff(1, jitter), 1.0))


@given(attempt=st.integers(1, 1000), jitter=JITTER)
def test_the_backoff_alone_counts_before_the_first_svid(attempt: int, jitter: float) -> None:
    wait = retry_at(NOW, None, attempt, jitter) - NOW
    assert wait == timedelta(seconds=max(backoff(attempt, jitter), 1.0))
