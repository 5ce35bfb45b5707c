"""Notices that the wall clock was set forward: it may be set right again, and a key that was deleted is gone."""

from __future__ import annotations

from datetime import timedelta

from meshtls.clock import Clock
from meshtls.logs import logger

__all__ = ["ClockJumps"]

#: More than a running clock is corrected by.
_JUMP = timedelta(hours=1)
#: For how long the new time is doubted, by the monotonic clock, in seconds.
_DOUBTED_SECONDS = 3600.0

log = logger("meshtls.server")


class ClockJumps:
    """Ask again and again. A clock that is set back, or forward by less than an hour, is trusted at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._trusted = self._start()
        self._since: float | None = None

    def is_in_doubt(self) -> bool:
        """Whether the wall clock was set forward within the last hour, and not back since."""
        start = self._start()
        ahead = start - self._trusted
        if ahead < _JUMP:
            self._trusted, self._since = start, None
            return False
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
            log.warning(
                "the clock was set forward by %s: no authority expires and no key is deleted within an hour;"
                " if it is wrong, set it right by then",
                timedelta(seconds=round(ahead.total_seconds())),
            )
        if now - self._since < _DOUBTED_SECONDS:
            return True
        self._trusted, self._since = start, None
        return False

    def _start(self) -> timedelta:
        """The wall-clock time at which the monotonic clock was zero, since the epoch."""
        seconds = self._clock.now().timestamp() - self._clock.monotonic()
        return timedelta(seconds=seconds)
