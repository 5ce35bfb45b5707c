"""Keeps the text of a scrape for a moment, so that a scraper that asks all the time costs no more than one that does
not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from meshtls.observe.metrics.exposition import Format, Scrape, format_for, render
from meshtls.observe.metrics.snapshot import Snapshot

__all__ = ["KeptScrapes"]

#: Scrapes within so many seconds have the same text.
_FRESH = 0.25


class KeptScrapes:
    """``snapshot`` is asked where the latest text is older than a quarter of a second."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        #: The latest of each format, and when it was made.
        self._kept: dict[Format, tuple[float, Scrape]] = {}

    def scrape(self, accept: str = "") -> Scrape:
        """The answer to a scrape with this Accept header, at most a quarter of a second old."""
        wanted, now = format_for(accept), time.monotonic()
        known = self._kept.get(wanted)
        if known is not None and now - known[0] < _FRESH:
            return known[1]
        answer = Scrape(wanted.value, render(self._snapshot(), wanted))
        self._kept[wanted] = (now, answer)
        return answer
