"""Token buckets. Pure."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["SAVED_SECONDS", "Budget", "Budgets"]

#: The size of a bucket, as seconds of its rate.
SAVED_SECONDS = 10.0
_MOST_REMEMBERED = 4096


class Budget:
    """A token bucket with ``rate`` tokens a second, ten seconds' worth at most. It begins full."""

    __slots__ = ("_at", "_left", "most", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.most = max(1.0, rate * SAVED_SECONDS)
        self._left = self.most
        self._at = now

    def set_rate(self, rate: float, now: float) -> None:
        """Fill at this rate from now on. Remaining tokens are kept, up to the new size."""
        self._refill(now)
        self.rate, self.most = rate, max(1.0, rate * SAVED_SECONDS)
        self._left = min(self._left, self.most)

    def take(self, count: float, now: float) -> bool:
        """Take this many tokens, or none if there are fewer; return whether they were taken."""
        self._refill(now)
        if self._left < count:
            return False
        self._left -= count
        return True

    def give_back(self, count: float) -> None:
        """Refund tokens that were not used."""
        self._left = min(self.most, self._left + count)

    def seconds_until(self, count: float, now: float) -> float:
        """Seconds until this many tokens can be taken."""
        self._refill(now)
        return max(0.0, (count - self._left) / self.rate)

    def _refill(self, now: float) -> None:
        self._left = min(self.most, self._left + (now - self._at) * self.rate)
        self._at = now


class Budgets:
    """One bucket per name, all with one rate; the longest idle ones are forgotten."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def of(self, name: str, now: float) -> Budget:
        budget = self._budgets.pop(name, None) or Budget(self._rate, now)
        self._budgets[name] = budget
        if len(self._budgets) > _MOST_REMEMBERED:
            self._budgets.popitem(last=False)
        return budget
