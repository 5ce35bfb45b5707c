"""When to renew and when to try again. Pure: time and chance come as arguments. ``jitter`` is always in [-1, 1]."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["FIRST_BACKOFF", "LONGEST_BACKOFF", "backoff", "next_rotation"]

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
_JITTER = 0.1
_LEAST_WAIT = timedelta(seconds=1)


def next_rotation(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """Half of the life after ``not_before``, give or take 10 % of that half; a fleet must not renew as one.

    At least one second after ``not_before``, so that lives too short for the rule make no busy loop.
    """
    half = (not_after - not_before) / 2
    return not_before + max(half * (1 + _JITTER * jitter), _LEAST_WAIT)


def backoff(attempt: int, jitter: float) -> float:
    """Seconds to wait after the ``attempt``-th failure in a row (from 1): doubling from 1 s to 30 s, +-10 %."""
    doubled = FIRST_BACKOFF * 2.0 ** min(attempt - 1, 16)
    return min(doubled, LONGEST_BACKOFF) * (1 + _JITTER * jitter)
