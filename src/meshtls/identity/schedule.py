"""When one SVID is renewed next, and the state of its renewal. Pure: time and jitter are arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from meshtls.svid.lifetime import LONGEST_BACKOFF, next_rotation, replacement_at, retry_at
from meshtls.svid.x509 import X509Svid

__all__ = ["Schedule"]

#: The longest delay of a retry. A retry further ahead was scheduled before the clock was set back.
_FARTHEST_RETRY = timedelta(seconds=2 * LONGEST_BACKOFF)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The renewal of one SVID: ``Schedule.of`` a new SVID, then ``failed`` for each attempt that fails.

    - ``due``: the next attempt.
    - ``received``, ``not_before``, ``not_after``: of the present SVID; None before the first.
    - ``failures``: failed attempts since the last success.
    - ``failing_since``, ``last_error``: when the first of them failed, and the error of the latest; None without
      failures.
    """

    due: datetime
    received: datetime | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    last_error: str | None = None

    @classmethod
    def of(cls, svid: X509Svid, received: datetime, jitter: float) -> Schedule:
        """The schedule of an SVID that was received at this time."""
        due = next_rotation(received, svid.not_after, jitter)
        return cls(due, received, svid.not_before, svid.not_after)

    def hastened(self, now: datetime, jitter: float) -> Schedule:
        """The present SVID is to be replaced within seconds, unless an attempt is due sooner."""
        return replace(self, due=min(self.due, replacement_at(now, jitter)))

    def failed(self, now: datetime, error: str, jitter: float, *, ignore_expiry: bool = False) -> Schedule:
        """One more attempt has failed.

        ``ignore_expiry``: retrying more often as the SVID's expiry nears would not help.
        """
        failures = self.failures + 1
        return replace(
            self,
            due=retry_at(now, None if ignore_expiry else self.not_after, failures, jitter),
            failures=failures,
            failing_since=self.failing_since or now,
            last_error=error,
        )

    def due_at(self, now: datetime) -> datetime:
        """The next attempt as seen at ``now``: at once if the clock was set back.

        That shows in an SVID that is not valid yet (every SVID is valid when it is received), and in a retry that is
        further ahead than the longest delay.
        """
        if self.failures:
            return now if self.due - now > _FARTHEST_RETRY else self.due
        return now if self.is_not_valid_yet(now) else self.due

    def is_not_valid_yet(self, now: datetime) -> bool:
        """Whether the present SVID is not valid yet at ``now``."""
        return self.not_before is not None and now < self.not_before

    def has_expired(self, now: datetime) -> bool:
        """Whether the present SVID has expired at ``now``."""
        return self.not_after is not None and self.not_after < now
