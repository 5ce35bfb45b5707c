"""Which entries a process with these selectors gets, and for each that it nearly gets, what is wanting. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass
from datetime import datetime

from meshtls.agent.entries import EntrySet, NearMiss, nearest
from meshtls.ca.registration import Entry, Selector
from meshtls.workload.convert import first_of_each_hint

__all__ = ["Explanation", "explain_process"]

_MOST = 5


@dataclass(frozen=True, slots=True)
class Explanation:
    """``matching`` are what the process is, the default first; ``hidden`` are those of them that it only gets when it
    asks for them by ID, since of several with one hint the first counts. It would be one of ``expired``, and of
    ``elsewhere``, which are for other agents. ``near`` are the entries that lack least, the nearest first.
    """

    selectors: tuple[Selector, ...]
    matching: tuple[Entry, ...]
    hidden: tuple[Entry, ...]
    near: tuple[NearMiss, ...]
    expired: tuple[Entry, ...]
    elsewhere: tuple[Entry, ...]


def explain_process(
    selectors: Set[Selector], entries: Iterable[Entry], reachable: Collection[str] | None, now: datetime
) -> Explanation:
    """``reachable`` are the ids of what the process's agent may serve; None where that is not to be asked."""
    known = list(entries)
    present = [one for one in known if not one.expired(now)]
    here = [one for one in present if reachable is None or one.id in reachable]
    there = [one for one in present if reachable is not None and one.id not in reachable]
    matching = EntrySet(here).matching(selectors, now)
    shown = first_of_each_hint(matching)
    return Explanation(
        selectors=tuple(sorted(selectors)),
        matching=matching,
        hidden=tuple(one for one in matching if one not in shown),
        near=nearest(here, selectors, _MOST),
        expired=tuple(one for one in known if one.expired(now) and one.matches(selectors)),
        elsewhere=tuple(one for one in there if one.matches(selectors)),
    )
