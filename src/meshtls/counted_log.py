"""Lines that strangers can cause, with a rate: a flood fills no log, and its size is told."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from meshtls.budget import Budget

__all__ = ["CountedLog", "LineRate"]

_SECONDS = 10.0
_MOST_KEYS = 1024


class CountedLog:
    """Logs the first warning of each key at once, then at most one in ten seconds, with the number of suppressed ones.

    So the number of keys bounds the number of lines: no part of a key may be chosen by a stranger.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        #: By key: when its last line was written, the number of warnings suppressed since, and the newest of those.
        self._keys: OrderedDict[Hashable, tuple[float, int, str]] = OrderedDict()

    def warning(self, key: Hashable, message: str) -> None:
        written, left_out, _ = self._keys.get(key, (float("-inf"), 0, ""))
        if self._now() - written < _SECONDS:
            self._keys[key] = (written, left_out + 1, message)
            return
        self._write(key, message, left_out)
        while len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)

    def flush(self) -> None:
        """Log the suppressed warnings of each key whose ten seconds have passed."""
        if not self._keys:
            return
        now = self._now()
        for key, (written, left_out, message) in list(self._keys.items()):
            if now - written < _SECONDS:
                continue
            if left_out:
                self._write(key, message, left_out - 1)
            else:
                del self._keys[key]

    def _write(self, key: Hashable, message: str, left_out: int) -> None:
        self._keys[key] = (self._now(), 0, "")
        self._keys.move_to_end(key)
        self._log.warning("%s%s", message, f" ({left_out} more like it)" if left_out else "")


class LineRate:
    """Whether one more line, in whatever log, may be written: ``rate`` a second, and ten times as many at once.

    What is left out is told as warnings in ``log`` (``CountedLog``). Ask before the line is made. ``flush`` tells of
    it, if it is time to.
    """

    def __init__(self, log: logging.Logger, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._budget = Budget(rate, now())
        self._left_out = CountedLog(log, now)
        #: How many lines were left out so far.
        self.left_out = 0
        self.flush = self._left_out.flush

    def allows(self, key: Hashable, what: str) -> bool:
        """``what`` would be left out otherwise, in words. No part of ``key`` may be chosen by a stranger."""
        self._left_out.flush()
        if self._budget.take(1, self._now()):
            return True
        self.left_out += 1
        self._left_out.warning(key, f"{what} left out, above {self._budget.rate:g} a second")
        return False
