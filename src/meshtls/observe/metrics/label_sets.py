"""Bounds the label sets of one family, so that no peer can make a scrape, or this process, grow without end. Pure.

Each label has a number of values that are told apart, and the family a number of label sets. A value or a set above
that is counted under ``other``. The first ones that came keep their own: a counter that vanished would look like a
restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from meshtls.observe.metrics.declaring import OTHER, Family
from meshtls.printable import printable

__all__ = ["LONGEST_VALUE", "LabelSets"]

#: Characters of a label's value: a SPIFFE ID has at most as many.
LONGEST_VALUE = 2048

_T = TypeVar("_T")


class LabelSets(Generic[_T]):
    """The children of a family by their label values. ``make`` makes one.

    ``overflows`` counts the lookups that were answered by an ``other``.
    """

    __slots__ = ("_family", "_make", "_seen", "children", "overflows")

    def __init__(self, family: Family, make: Callable[[], _T]) -> None:
        self._family = family
        self._make = make
        self._seen: tuple[set[str], ...] = tuple(set(label.values) for label in family.labels)
        self.children: dict[tuple[str, ...], _T] = {}
        self.overflows = 0

    def child(self, values: tuple[str, ...]) -> _T:
        """The child with these values, one for each label, perhaps that with ``other``. Raises ValueError for another
        number of values.
        """
        found = self.children.get(values)
        return found if found is not None else self._admit(values)

    def clear(self) -> None:
        """Forget every child, and which values there were."""
        self.children.clear()
        self._seen = tuple(set(label.values) for label in self._family.labels)

    def _admit(self, values: tuple[str, ...]) -> _T:
        labels = self._family.labels
        if len(values) != len(labels):
            wanted = ", ".join(label.name for label in labels) or "none"
            raise ValueError(f"metric {self._family.name}: wanted a value for each label ({wanted}), got {len(values)}")
        shown = tuple(map(_shown, values))
        bounded = tuple(
            value if value in seen or (not label.values and len(seen) < label.most) else OTHER
            for label, value, seen in zip(labels, shown, self._seen, strict=True)
        )
        if bounded not in self.children and len(self.children) >= self._family.most:
            bounded = tuple(value if label.values else OTHER for label, value in zip(labels, bounded, strict=True))
        if bounded != shown:
            self.overflows += 1
        child = self.children.get(bounded)
        if child is None:
            child = self.children[bounded] = self._make()
            for label, value, seen in zip(labels, bounded, self._seen, strict=True):
                if not label.values and value != OTHER:
                    seen.add(value)
        return child


def _shown(value: str) -> str:
    text = printable(value[:LONGEST_VALUE])
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE]
