"""When to try again to rotate. Pure: time and chance come as arguments. ``jitter`` is always in [-1, 1]."""

from __future__ import annotations

from datetime import datetime, timedelta

from meshtls.svid.lifetime import FIRST_BACKOFF, LONGEST_BACKOFF, backoff, next_rotation

__all__ = ["FIRST_BACKOFF", "LONGEST_BACKOFF", "backoff", "next_rotation", "retry_at"]

_LEAST_WAIT = timedelta(seconds=1)


def retry_at(now: datetime, not_after: datetime | None, attempt: int, jitter: float) -> datetime:
    """The next try: after the backoff, but sooner where half of what is left of the SVID's life is shorter.

    Never sooner than one second. About that often once the SVID has expired, for it is missed; by the backoff alone
    where there never was one (``not_after`` None).
    """
    wait = timedelta(seconds=backoff(attempt, jitter))
    if not_after is not None:
        wait = min(wait, max((not_after - now) / 2, timedelta(seconds=backoff(1, jitter))))
    return now + max(wait, _LEAST_WAIT)
