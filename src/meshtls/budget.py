"""Token buckets. Pure."""

from __future__ import annotations

from collections import OrderedDict

from meshtls.memo import keep_newest

__all__ = ["SAVED_SECONDS", "Budget", "Budgets"]

#: The usual size of a bucket, as seconds of its rate.
SAVED_SECONDS = 10.0
_MOST_REMEMBERED = 4096


class Budget:
    """A token bucket with ``rate`` tokens a second; it holds ``saved_seconds`` of them at most, and begins full."""

    __slots__ = ("_at", "_saved_seconds", "left", "most", "rate")

    def __init__(self, rate: float, now: float, saved_seconds: float = SAVED_SECONDS) -> None:
        self.rate = rate
        self.most = max(1.0, rate * saved_seconds)
        #: The tokens at the time of the last call; more may have come since.
        self.left = self.most
        self._at = now
        self._saved_seconds = saved_seconds

    def set_rate(self, rate: float, now: float) -> None:
        """Fill at this rate from now on. Remaining tokens are kept, up to the new size."""
        self._refill(now)
        self.rate, self.most = rate, max(1.0, rate * self._saved_seconds)
        self.left = min(self.left, self.most)

    def take(self, count: float, now: float) -> bool:
        """Take this many tokens, or none if there are fewer; return whether they were taken."""
        self._refill(now)
        if self.left < count:
            return False
        self.left -= count
        return True

    def give_back(self, count: float) -> None:
        """Refund tokens that were not used."""
        self.left = min(self.most, self.left + count)

    def seconds_until(self, count: float, now: float) -> float:
        """Seconds until this many tokens can be taken."""
        self._refill(now)
        return max(0.0, (count - self.left) / self.rate)

    def _refill(self, now: float) -> None:
        self.left = min(self.most, self.left + (now - self._at) * self.rate)
        self._at = now


class Budgets:
    """One bucket per name, all with one rate; the longest idle ones are forgotten."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def of(self, name: str, now: float) -> Budget:
        budget = self._budgets.get(name) or Budget(self._rate, now)
        keep_newest(self._budgets, name, budget, _MOST_REMEMBERED)
        return budget
