"""What the data store may hold after the calls that were made, by what is known of their outcome. Pure.

An entry is named by its SPIFFE ID and has a value, here its TTL; None is: there is none. A call that was acknowledged
leaves one possible value. A call without an answer may have been carried out or not, so it leaves both.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WritesModel"]

Value = int | None


class WritesModel:
    """``acknowledged`` counts the calls by whose answer the store is held."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unknown = 0
        self._possible: dict[str, frozenset[Value]] = {}

    def acknowledge(self, name: str, value: Value) -> None:
        """The call that sets this value was answered with success."""
        self.acknowledged += 1
        self._possible[name] = frozenset({value})

    def leave_open(self, name: str, value: Value) -> None:
        """The call that sets this value was sent and not answered."""
        self.unknown += 1
        self._possible[name] = self.possible(name) | {value}

    def possible(self, name: str) -> frozenset[Value]:
        """The values that this entry may have."""
        return self._possible.get(name, frozenset({None}))

    def observe(self, name: str, value: Value) -> str | None:
        """Take over what the store holds. Gives what is wrong with it where that can't be."""
        possible = self.possible(name)
        self._possible[name] = frozenset({value})
        if value in possible:
            return None
        wanted = " or ".join(sorted(_words(one) for one in possible))
        return f"{name}: wanted {wanted} by the calls that were answered, found {_words(value)}"

    def observe_all(self, held: Mapping[str, int], under: str = "") -> list[str]:
        """The same for all entries whose names begin so: one that the store lacks is one that is not there."""
        names = sorted(name for name in {*self._possible, *held} if name.startswith(under))
        return [wrong for name in names if (wrong := self.observe(name, held.get(name))) is not None]


def _words(value: Value) -> str:
    return "no entry" if value is None else f"an entry with TTL {value}"
