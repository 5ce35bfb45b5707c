"""The possible contents of the data store after a series of calls, given their known outcomes. Pure.

An entry is identified by its SPIFFE ID and has a value, here its TTL; None means no entry. An acknowledged call leaves
one possible value. A call without a response may have been executed or not, so it leaves both.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WritesModel"]

Value = int | None


class WritesModel:
    """``acknowledged`` counts the calls whose effect the store must have."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unknown = 0
        self._possible: dict[str, frozenset[Value]] = {}

    def acknowledge(self, name: str, value: Value) -> None:
        """The call that sets this value was acknowledged."""
        self.acknowledged += 1
        self._possible[name] = frozenset({value})

    def leave_open(self, name: str, value: Value) -> None:
        """The call that sets this value was sent, without a response."""
        self.unknown += 1
        self._possible[name] = self.possible(name) | {value}

    def possible(self, name: str) -> frozenset[Value]:
        """The possible values of this entry."""
        return self._possible.get(name, frozenset({None}))

    def observe(self, name: str, value: Value) -> str | None:
        """Record the store's value. Returns the violation if the value is impossible."""
        possible = self.possible(name)
        self._possible[name] = frozenset({value})
        if value in possible:
            return None
        wanted = " or ".join(sorted(_words(one) for one in possible))
        return f"{name}: wanted {wanted} by the calls that were answered, found {_words(value)}"

    def observe_all(self, held: Mapping[str, int], under: str = "") -> list[str]:
        """The same for all entries with this prefix: an entry missing from the store has the value None."""
        names = sorted(name for name in {*self._possible, *held} if name.startswith(under))
        return [wrong for name in names if (wrong := self.observe(name, held.get(name))) is not None]


def _words(value: Value) -> str:
    return "no entry" if value is None else f"an entry with TTL {value}"
