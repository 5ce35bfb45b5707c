"""The watchers that a changed entry concerns, found by its selectors. Pure."""

from __future__ import annotations

from collections.abc import Set

from meshtls.registration import Entry, Selector

__all__ = ["Watchers"]


class Watchers:
    """Each watcher is a number with the selectors of one workload."""

    def __init__(self) -> None:
        self._selectors: dict[int, frozenset[Selector]] = {}
        self._having: dict[Selector, set[int]] = {}
        #: Watchers whose program was not hashed because no entry needed it: its digest is unknown.
        self._undigested: set[int] = set()
        self._last = 0

    def add(self, selectors: frozenset[Selector] = frozenset()) -> int:
        """Add a watcher and return its number."""
        self._last += 1
        self._selectors[self._last] = frozenset()
        self.change(self._last, selectors)
        return self._last

    def change(self, number: int, selectors: frozenset[Selector]) -> None:
        """The watcher's workload has these selectors from now on."""
        old = self._selectors[number]
        for gone in old - selectors:
            self._having[gone].discard(number)
            if not self._having[gone]:
                del self._having[gone]
        for new in selectors - old:
            self._having.setdefault(new, set()).add(number)
        self._selectors[number] = selectors
        if any(selector.is_digest for selector in selectors):
            self._undigested.discard(number)
        else:
            self._undigested.add(number)

    def remove(self, number: int) -> None:
        """Forget the watcher."""
        self.change(number, frozenset())
        del self._selectors[number]
        self._undigested.discard(number)

    def concerned(self, entry: Entry) -> Set[int]:
        """Every watcher whose workload matches this entry, or may match it once its program is hashed."""
        first, *others = map(self._may_have, entry.selectors)
        return first.intersection(*others)

    def _may_have(self, selector: Selector) -> set[int]:
        having = self._having.get(selector, set())
        return having | self._undigested if selector.is_digest else having

    def all(self) -> Set[int]:
        return set(self._selectors)

    def __len__(self) -> int:
        return len(self._selectors)

    def __repr__(self) -> str:
        return f"<Watchers {len(self)} with {len(self._having)} selectors>"
