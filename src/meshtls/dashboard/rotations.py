"""The SVIDs that processes hold, and those that they held before, as far as the dashboard has seen them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshtls.dashboard.reading import moment
from meshtls.svid.lifetime import BACKDATE, next_rotation

__all__ = ["Held", "Rotations"]

_MOST, _HISTORY = 5000, 20


@dataclass(slots=True)
class Held:
    """One identity of one process. ``svid`` is the record of ``/certs``; ``since`` when this serial was first seen,
    and ``watched`` whether it replaced another one while the dashboard ran.
    """

    process: str
    role: str
    svid: Mapping[str, Any]
    since: datetime
    watched: bool = False
    history: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    @property
    def next_rotation(self) -> datetime:
        """When its holder will renew it, give or take 10 %, if it renews at half of the life as meshtls does."""
        ends = moment(self.svid["not_after"])
        began = moment(self.svid["not_before"])
        received = self.since if self.watched else min(began + BACKDATE, began + (ends - began) / 4)
        return next_rotation(received, ends, 0.0)


class Rotations:
    """The SVIDs that processes hold, and those that they held before. ``take`` is given the SVIDs of a process at each
    look; ``now`` is when it answered.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str, str], Held] = {}

    def take(self, process: str, svids: list[tuple[str, Mapping[str, Any]]], now: datetime) -> bool:
        """Each with its role. True if something changed."""
        changed = False
        seen = set()
        for role, svid in svids:
            key = process, role, str(svid["spiffe_id"]), str(svid.get("hint") or "")
            if key in seen:  # an agent has an SVID of this ID for each entry
                key = process, role, str(svid["spiffe_id"]), str(svid["serial"])
            seen.add(key)
            held = self._held.get(key)
            if held is None:
                if len(self._held) >= _MOST:
                    continue
                self._held[key] = Held(process, role, svid, now)
                changed = True
            elif held.svid["serial"] != svid["serial"]:
                past = {name: held.svid[name] for name in ("serial", "not_before", "not_after")}
                held.history.appendleft({**past, "replaced": now.isoformat()})
                held.svid, held.since, held.watched = svid, now, True
                changed = True
        for key in [one for one in self._held if one[0] == process and one not in seen]:
            del self._held[key]
            changed = True
        return changed

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())
