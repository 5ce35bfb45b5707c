"""A text that is made only if somebody reads it. Pure.

To find out why a request was denied takes a thousand times as long as to deny it, and anyone can be denied. So whatever
carries such a text, an exception or a connection's result, carries it unmade, until a line of a log is written.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LazyText"]


class LazyText:
    """A text that is made when it is read. ``str`` makes the text, once. A copy, or a pickle, is the text itself.

    ``short``: what stands for it where there is no time to make it.
    """

    __slots__ = ("_made", "_make", "short")

    def __init__(self, make: Callable[[], str], short: str = "") -> None:
        self._make: Callable[[], str] | None = make
        self._made = ""
        self.short = short

    def __str__(self) -> str:
        if self._make is not None:
            self._made, self._make = self._make(), None
        return self._made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)

    def __repr__(self) -> str:
        return "<LazyText>" if self._make is not None else repr(self._made)
