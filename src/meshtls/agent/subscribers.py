"""Who waits for news, found by the selectors of an entry that changed. Pure."""

from __future__ import annotations

from collections.abc import Set

from meshtls.ca.registration import Entry, Selector

__all__ = ["Subscribers"]


class Subscribers:
    """Numbers, each with the selectors of one workload that wants to hear of changes."""

    def __init__(self) -> None:
        self._selectors: dict[int, frozenset[Selector]] = {}
        self._having: dict[Selector, set[int]] = {}
        self._last = 0

    def add(self, selectors: frozenset[Selector] = frozenset()) -> int:
        """A new one."""
        self._last += 1
        self._selectors[self._last] = frozenset()
        self.change(self._last, selectors)
        return self._last

    def change(self, number: int, selectors: frozenset[Selector]) -> None:
        """This one has these selectors now."""
        old = self._selectors[number]
        for gone in old - selectors:
            self._having[gone].discard(number)
            if not self._having[gone]:
                del self._having[gone]
        for new in selectors - old:
            self._having.setdefault(new, set()).add(number)
        self._selectors[number] = selectors

    def remove(self, number: int) -> None:
        """This one wants no more news."""
        self.change(number, frozenset())
        del self._selectors[number]

    def concerned(self, entry: Entry) -> Set[int]:
        """All whose identity this entry is."""
        first, *others = (self._having.get(selector, set()) for selector in entry.selectors)
        return first.intersection(*others)

    def all(self) -> Set[int]:
        return set(self._selectors)

    def __len__(self) -> int:
        return len(self._selectors)

    def __repr__(self) -> str:
        return f"<Subscribers {len(self)} with {len(self._having)} selectors>"
