"""Logs a lasting failure once when it begins, once when its cause changes, and once when it ends, with a count."""

from __future__ import annotations

import logging
from datetime import datetime

from meshtls.clock import Clock

__all__ = ["Outage"]


class Outage:
    """Consecutive failures of one operation: ``failures`` since the last success, the first of them at ``since``."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self.failures = 0
        self.since: datetime | None = None
        self._log = log
        self._clock = clock
        self._cause: object = None

    def failed(self, cause: object, text: str, level: int = logging.WARNING) -> None:
        """Count a failure. ``text`` is logged at ``level`` if ``cause`` differs from that of the previous failure."""
        if self.since is None:
            self.since = self._clock.now()
        if self.failures and cause == self._cause:
            self._log.debug("%s", text)
        elif self.failures:
            self._log.log(level, "%s (%d earlier failures with another cause)", text, self.failures)
        else:
            self._log.log(level, "%s", text)
        self.failures += 1
        self._cause = cause

    def ended(self, text: str) -> None:
        """Note a success: if there were failures, ``text`` is logged with their number."""
        if self.since is None:
            return
        self._log.warning("%s after %d failures since %s", text, self.failures, f"{self.since:%Y-%m-%dT%H:%M:%SZ}")
        self.failures, self.since, self._cause = 0, None, None

    def __repr__(self) -> str:
        return f"<Outage [{self.failures} failures]>"
