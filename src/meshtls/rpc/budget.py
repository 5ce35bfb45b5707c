"""A rate with savings: the token bucket. Pure."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["SAVED_SECONDS", "Budget", "Budgets"]

#: A caller may save up a rate for so long, and then spend it at once.
SAVED_SECONDS = 10.0
_MOST_REMEMBERED = 4096


class Budget:
    """``rate`` a second, and at most ten seconds of it saved up. It begins full."""

    __slots__ = ("_at", "_left", "most", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.most = max(1.0, rate * SAVED_SECONDS)
        self._left = self.most
        self._at = now

    def set_rate(self, rate: float, now: float) -> None:
        """From now on it fills at this rate; what is left of the savings stays, as far as so many may be saved up."""
        self._refill(now)
        self.rate, self.most = rate, max(1.0, rate * SAVED_SECONDS)
        self._left = min(self._left, self.most)

    def take(self, count: float, now: float) -> bool:
        """Spend so many, or nothing where there are fewer."""
        self._refill(now)
        if self._left < count:
            return False
        self._left -= count
        return True

    def give_back(self, count: float) -> None:
        """What was taken and not used after all."""
        self._left = min(self.most, self._left + count)

    def seconds_until(self, count: float, now: float) -> float:
        """How long until so many can be spent."""
        self._refill(now)
        return max(0.0, (count - self._left) / self.rate)

    def _refill(self, now: float) -> None:
        self._left = min(self.most, self._left + (now - self._at) * self.rate)
        self._at = now


class Budgets:
    """One for each name, all of one rate; of those longest unheard of nothing is remembered."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def of(self, name: str, now: float) -> Budget:
        budget = self._budgets.pop(name, None) or Budget(self._rate, now)
        self._budgets[name] = budget
        if len(self._budgets) > _MOST_REMEMBERED:
            self._budgets.popitem(last=False)
        return budget
