"""Bounded memories: of the newest values, and of what pure functions returned. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

__all__ = ["Memo", "keep_newest"]

_K = TypeVar("_K")
_V = TypeVar("_V")


def keep_newest(kept: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Put the value last in ``kept``; one beyond ``most`` drops the first, which is the oldest."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


class Memo(dict[_K, _V]):
    """What pure functions returned, for callers whose questions are much alike: at most ``most`` values.

    A client of HTTP sends the same head again and again, and most of the cost of a request is to find the same things
    out about it. Whatever the key does not hold must not change the value, or must empty the memo.

    A new value beyond ``most`` empties it: to find out which of them is the least used would cost more at each hit than
    it could save.
    """

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: _K, value: _V) -> _V:
        """Returns ``value``."""
        if len(self) >= self._most:
            self.clear()
        self[key] = value
        return value
