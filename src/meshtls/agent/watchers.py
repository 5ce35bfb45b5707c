"""Who waits for news, found by the selectors of an entry that changed. Pure."""

from __future__ import annotations

from collections.abc import Set

from meshtls.ca.registration import Entry, Selector

__all__ = ["Watchers"]


class Watchers:
    """Numbers, each with the selectors of one workload that wants to hear of changes."""

    def __init__(self) -> None:
        self._selectors: dict[int, frozenset[Selector]] = {}
        self._having: dict[Selector, set[int]] = {}
        #: Those whose program was not hashed, since no entry asked for it: a digest may be theirs.
        self._undigested: set[int] = set()
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
        if any(selector.is_digest for selector in selectors):
            self._undigested.discard(number)
        else:
            self._undigested.add(number)

    def remove(self, number: int) -> None:
        """This one wants no more news."""
        self.change(number, frozenset())
        del self._selectors[number]
        self._undigested.discard(number)

    def concerned(self, entry: Entry) -> Set[int]:
        """All whose identity this entry is, or may be once their program is hashed."""
        first, *others = map(self._who_may_have, entry.selectors)
        return first.intersection(*others)

    def _who_may_have(self, selector: Selector) -> set[int]:
        having = self._having.get(selector, set())
        return having | self._undigested if selector.is_digest else having

    def all(self) -> Set[int]:
        return set(self._selectors)

    def __len__(self) -> int:
        return len(self._selectors)

    def __repr__(self) -> str:
        return f"<Watchers {len(self)} with {len(self._having)} selectors>"
