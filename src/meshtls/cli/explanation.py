"""The entries that match a process with these selectors, and what is missing for the near misses. Pure.

An entry matches if an agent has attested, the entry's parents lead to that agent, and the process has every selector.
Each of the three may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from meshtls.agent.entries import EntrySet, MissedEntry, nearest
from meshtls.registration import Entry, Selector
from meshtls.server.reach import Reach
from meshtls.spiffeid import SpiffeId
from meshtls.workload.convert import first_of_each_hint

__all__ = ["Explanation", "explain_process"]

_MOST = 5


@dataclass(frozen=True, slots=True)
class Explanation:
    """The entries by what they mean for the process.

    - ``matching``: those that match, the default first.
    - ``hidden``: matching ones that are only issued on request by ID, since an earlier one has the same hint.
    - ``near``: near misses, those with the fewest missing selectors first.
    - ``expired``, ``elsewhere``, ``unserved``: the selectors match, but the entry has expired, only other agents serve
      it, or no agent does.
    - ``served_by``: the agents that serve each entry, by entry id; ``obstacles``: the reason why none does.
    """

    selectors: tuple[Selector, ...]
    matching: tuple[Entry, ...]
    hidden: tuple[Entry, ...]
    near: tuple[MissedEntry, ...]
    expired: tuple[Entry, ...]
    elsewhere: tuple[Entry, ...]
    unserved: tuple[Entry, ...] = ()
    served_by: Mapping[str, tuple[SpiffeId, ...]] = field(default_factory=dict)
    obstacles: Mapping[str, str] = field(default_factory=dict)


def explain_process(
    selectors: Set[Selector], entries: Iterable[Entry], reach: Reach, agent: SpiffeId | None, now: datetime
) -> Explanation:
    """Explain for a process on the node of ``agent``, or on any node if that is None."""
    known = list(entries)
    present = [one for one in known if not one.expired(now)]
    obstacles = {one.id: why for one in present if (why := reach.obstacle(one)) is not None}
    served_by = {one.id: reach.agents_of(one.id) for one in present if one.id not in obstacles}
    served = [one for one in present if one.id in served_by]
    here = [one for one in served if agent is None or agent in served_by[one.id]]
    there = [one for one in served if agent is not None and agent not in served_by[one.id]]
    matching = EntrySet(here).matching(selectors, now)
    shown = first_of_each_hint(matching)
    return Explanation(
        selectors=tuple(sorted(selectors)),
        matching=matching,
        hidden=tuple(one for one in matching if one not in shown),
        near=nearest([*here, *(one for one in present if one.id in obstacles)], selectors, _MOST),
        expired=tuple(one for one in known if one.expired(now) and one.matches(selectors)),
        elsewhere=tuple(one for one in there if one.matches(selectors)),
        unserved=tuple(one for one in present if one.id in obstacles and one.matches(selectors)),
        served_by=served_by,
        obstacles=obstacles,
    )
