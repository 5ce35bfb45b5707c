"""When to renew and when to try again. Pure: time and chance are arguments. ``jitter`` is always in [-1, 1].

A life counts from the moment at which the holder received the SVID, never from ``not_before``: a CA backdates that, so
that peers whose clocks are slow accept the SVID. For an SVID of 4 s with 10 s of backdating, half of the time between
``not_before`` and ``not_after`` is over before it is received.
"""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = [
    "BACKDATE",
    "FIRST_BACKOFF",
    "LONGEST_BACKOFF",
    "backoff",
    "next_rotation",
    "overdue_at",
    "replacement_at",
    "retry_at",
]

#: By how much our CA, and SPIRE's, backdate ``not_before``.
BACKDATE = timedelta(seconds=10)
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
_JITTER = 0.1
#: Between any two attempts, however short the life: without it, an SVID received expired would cause a busy loop.
_LEAST_WAIT = timedelta(milliseconds=250)
#: Between two attempts while no SVID is at stake or the present one has expired.
_STEADY_WAIT = timedelta(seconds=1)
_REPLACED_WITHIN = timedelta(seconds=3)
#: A holder renews at half of the life, give or take 10 % of that; after this part of the life it is late.
_OVERDUE = 2 / 3


def next_rotation(start: datetime, not_after: datetime, jitter: float) -> datetime:
    """Half of the life after ``start``, give or take 10 % of that half; a fleet must not renew as one.

    ``start`` is when the SVID was received. At least 250 ms later.
    """
    half = (not_after - start) / 2
    return start + max(half * (1 + _JITTER * jitter), _LEAST_WAIT)


def replacement_at(now: datetime, jitter: float) -> datetime:
    """When to replace an SVID of a tainted authority: within three seconds, since a fleet must not renew as one."""
    return now + _REPLACED_WITHIN * (1 + jitter) / 2


def overdue_at(start: datetime, not_after: datetime) -> datetime:
    """When to warn if no newer SVID was received."""
    return start + max(not_after - start, timedelta(0)) * _OVERDUE


def backoff(attempt: int, jitter: float) -> float:
    """Seconds to wait after the ``attempt``-th failure in a row (from 1): doubling from 1 s to 30 s, +-10 %."""
    doubled = FIRST_BACKOFF * 2.0 ** min(attempt - 1, 16)
    return min(doubled, LONGEST_BACKOFF) * (1 + _JITTER * jitter)


def retry_at(now: datetime, not_after: datetime | None, attempt: int, jitter: float) -> datetime:
    """The next attempt after the ``attempt``-th failure in a row (from 1).

    - Before ``not_after``: after the backoff, or after half of the time left where that is shorter, but at least 250 ms
      later. So an attempt always comes before the SVID expires, as long as more than 250 ms are left.
    - From ``not_after`` on: every second, since the SVID is missed.
    - ``not_after`` None: no SVID is at stake, and the backoff alone counts; at least a second.
    """
    wait = max(timedelta(seconds=backoff(attempt, jitter)), _STEADY_WAIT)
    if not_after is None:
        return now + wait
    left = not_after - now
    if left <= timedelta(0):
        return now + max(timedelta(seconds=backoff(1, jitter)), _STEADY_WAIT)
    return now + min(wait, max(left / 2, _LEAST_WAIT))
