"""When an authority is replaced: a rule of its life alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meshtls.ca.rotation import Life

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("life", "prepare", "activate", "anyway"),
    [
        (timedelta(hours=24), timedelta(hours=12), timedelta(hours=4), timedelta(hours=2)),
        (timedelta(days=42), timedelta(days=21), timedelta(days=7), timedelta(days=3.5)),
        (timedelta(days=60), timedelta(days=30), timedelta(days=7), timedelta(days=3.5)),
        (timedelta(days=3650), timedelta(days=30), timedelta(days=7), timedelta(days=3.5)),
    ],
)
def test_the_next_is_prepared_with_half_left_and_activated_with_a_sixth_left(
    life: timedelta, prepare: timedelta, activate: timedelta, anyway: timedelta
) -> None:
    one = Life(START, START + life)
    left = [one.end - when for when in (one.prepare_at, one.activate_at, one.activate_anyway_at)]
    assert left == [prepare, activate, anyway]
