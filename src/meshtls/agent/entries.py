"""The entries that an agent may serve: which of them a workload matches, and its near misses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from meshtls.registration import Entry, Selector

__all__ = ["EntrySet", "MissedEntry", "nearest"]

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class MissedEntry:
    """An entry that a workload does not match, and the selectors that it lacks."""

    entry: Entry
    missing: tuple[Selector, ...]

    def __str__(self) -> str:
        return f"{self.entry.spiffe_id}, missing {' and '.join(map(str, self.missing))}"


class EntrySet:
    """Entries by id, each indexed by the first of its selectors.

    So the cost of a lookup grows with the workload's selectors, not with the number of entries.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._by_id: dict[str, Entry] = {}
        self._by_selector: dict[Selector, dict[str, Entry]] = {}
        #: Entries with a program's digest among their selectors, by the first other selector, or None without one.
        self._by_other: dict[Selector | None, dict[str, Entry]] = {}
        #: Increased by each change.
        self.version = 0
        for entry in entries:
            self.put(entry)

    def put(self, entry: Entry) -> Entry | None:
        """Add this entry and return the one with the same id that it replaces, if any."""
        replaced = self.remove(entry.id)
        self._by_id[entry.id] = entry
        self._by_selector.setdefault(entry.selectors[0], {})[entry.id] = entry
        if any(selector.is_digest for selector in entry.selectors):
            self._by_other.setdefault(_first_other(entry), {})[entry.id] = entry
        return replaced

    def remove(self, entry_id: str) -> Entry | None:
        """Remove the entry and return it."""
        self.version += 1
        entry = self._by_id.pop(entry_id, None)
        if entry is not None:
            _drop(self._by_selector, entry.selectors[0], entry_id)
            if any(selector.is_digest for selector in entry.selectors):
                _drop(self._by_other, _first_other(entry), entry_id)
        return entry

    def get(self, entry_id: str) -> Entry | None:
        return self._by_id.get(entry_id)

    def matching(self, selectors: Set[Selector], now: datetime) -> tuple[Entry, ...]:
        """The entries that a workload with these selectors matches, the oldest first.

        The oldest is the default identity, so a new entry does not change it.
        """
        candidates = [entry for one in selectors for entry in self._by_selector.get(one, {}).values()]
        found = [entry for entry in candidates if entry.matches(selectors) and not entry.expired(now)]
        return tuple(sorted(found, key=_oldest_first))

    def digest_could_match(self, selectors: Set[Selector]) -> bool:
        """Whether a workload with these selectors lacks only its program's digest to match some entry."""
        candidates = (entry for one in (None, *selectors) for entry in self._by_other.get(one, {}).values())
        return any(all(one.is_digest or one in selectors for one in entry.selectors) for entry in candidates)

    def next_expiry(self) -> datetime | None:
        """When the next entry expires."""
        return min((one.expires_at for one in self._by_id.values() if one.expires_at is not None), default=None)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"<EntrySet of {len(self)}>"


def nearest(entries: Iterable[Entry], selectors: Set[Selector], most: int = 1) -> tuple[MissedEntry, ...]:
    """The near misses of a workload with these selectors, the nearest first, then the most specific, at most ``most``.

    An entry counts only if the workload has at least one of its selectors.
    """
    misses = (MissedEntry(entry, entry.missing(selectors)) for entry in entries)
    near = [miss for miss in misses if 0 < len(miss.missing) < len(miss.entry.selectors)]
    near.sort(key=lambda one: (len(one.missing), -len(one.entry.selectors), str(one.entry.spiffe_id), one.entry.id))
    return tuple(near[:most])


def _oldest_first(entry: Entry) -> tuple[int, str, str]:
    return (entry.created, str(entry.spiffe_id), entry.id)


def _first_other(entry: Entry) -> Selector | None:
    return next((selector for selector in entry.selectors if not selector.is_digest), None)


def _drop(index: dict[K, dict[str, Entry]], key: K, entry_id: str) -> None:
    del index[key][entry_id]
    if not index[key]:
        del index[key]
