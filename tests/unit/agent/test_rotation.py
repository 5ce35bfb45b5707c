"""When to rotate and when to try again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.agent.rotation import backoff, next_rotation, retry_at

START = datetime(2030, 1, 1, tzinfo=UTC)
JITTER = st.floats(-1, 1)
LIVES = st.timedeltas(timedelta(seconds=3), timedelta(days=3650))


@pytest.mark.parametrize(("jitter", "minutes"), [(0.0, 30), (1.0, 33), (-1.0, 27)])
def test_an_hour_rotates_after_half_an_hour_give_or_take_ten_percent(jitter: float, minutes: float) -> None:
    assert next_rotation(START, START + timedelta(hours=1), jitter) == START + timedelta(minutes=minutes)


@given(life=LIVES, jitter=JITTER)
def test_rotation_leaves_two_fifths_of_the_life_for_retries(life: timedelta, jitter: float) -> None:
    due = next_rotation(START, START + life, jitter)
    assert START + timedelta(seconds=1) <= due
    assert life * 0.44 <= due - START <= life * 0.56


@given(life=st.timedeltas(timedelta(days=-1), timedelta(seconds=2)), jitter=JITTER)
def test_a_life_too_short_for_the_rule_makes_no_busy_loop(life: timedelta, jitter: float) -> None:
    assert next_rotation(START, START + life, jitter) >= START + timedelta(seconds=1)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (7, 30), (10_000, 30)])
def test_backoff_doubles_up_to_half_a_minute(attempt: int, seconds: float) -> None:
    assert backoff(attempt, 0.0) == seconds
    assert backoff(attempt, 1.0) == pytest.approx(seconds * 1.1)


@given(left=st.timedeltas(timedelta(seconds=3), timedelta(minutes=2)), attempt=st.integers(1, 1000), jitter=JITTER)
def test_a_retry_comes_before_the_svid_expires(left: timedelta, attempt: int, jitter: float) -> None:
    wait = retry_at(START, START + left, attempt, jitter) - START
    assert timedelta(seconds=1) <= wait <= max(left / 2, timedelta(seconds=1.1))


@given(past=st.timedeltas(timedelta(0), timedelta(days=30)), attempt=st.integers(1, 1000), jitter=JITTER)
def test_after_expiry_it_is_tried_every_second(past: timedelta, attempt: int, jitter: float) -> None:
    wait = retry_at(START, START - past, attempt, jitter) - START
    assert wait == timedelta(seconds=max(backoff(1, jitter), 1.0))


@given(attempt=st.integers(1, 1000), jitter=JITTER)
def test_where_there_never_was_an_svid_the_backoff_alone_counts(attempt: int, jitter: float) -> None:
    wait = retry_at(START, None, attempt, jitter) - START
    assert wait == timedelta(seconds=max(backoff(attempt, jitter), 1.0))
