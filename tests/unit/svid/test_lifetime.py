"""When to renew and when to try again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.svid.lifetime import backoff, next_rotation
from tests.support.certs import NOW

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("jitter", "minutes"), [(0, 30), (1, 33), (-1, 27)])
def test_renewal_is_at_half_life_give_or_take_a_tenth(jitter: float, minutes: int) -> None:
    assert next_rotation(NOW, NOW + HOUR, jitter) == NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize("life", [timedelta(0), timedelta(seconds=1), -HOUR])
def test_renewal_is_never_sooner_than_a_second(life: timedelta) -> None:
    assert next_rotation(NOW, NOW + life, 0) == NOW + timedelta(seconds=1)


def test_the_backoff_doubles_from_one_second_to_thirty() -> None:
    assert [backoff(attempt, 0) for attempt in (1, 2, 3, 4, 5, 6, 7)] == [1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 10**9), st.floats(-1, 1))
def test_the_backoff_stays_within_its_bounds(attempt: int, jitter: float) -> None:
    assert 0.9 <= backoff(attempt, jitter) <= 33
