"""When a friendly connection may fail: only if the server or the agent was down for longer than an SVID lives. Pure.

An outage begins with a kill and ends when the mesh has healed: every sidecar is ready, every workload has an SVID that
was signed after the restart, and each flow has carried a connection since. Within it, a connection may fail once the
SVID of one of its two sides that was known at the beginning has expired. Before that, and outside of outages, no
connection may fail. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Connection", "Life", "Outage", "SvidLives", "may_fail"]

#: An SVID issued just before a kill may have reached one watcher of the agent and not another.
_DELIVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Connection:
    """One friendly connection that failed: the workloads at its ends, its time, and why."""

    ends: tuple[str, str]
    began: float
    ended: float
    why: str


@dataclass(slots=True)
class Outage:
    """``healed`` is None as long as it lasts."""

    victims: tuple[str, ...]
    began: float
    healed: float | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """An SVID: when it was first seen, and when it expires."""

    seen: float
    not_after: float


@dataclass(slots=True)
class SvidLives:
    """The SVIDs of each workload, oldest first."""

    of: dict[str, list[Life]] = field(default_factory=dict)

    def add(self, workload: str, life: Life) -> None:
        self.of.setdefault(workload, []).append(life)

    def end_known_at(self, workload: str, moment: float) -> float:
        """When the newest SVID that every watcher had at this moment expires; this moment if there is none."""
        known = [life.not_after for life in self.of.get(workload, []) if life.seen <= moment - _DELIVERY_S]
        return known[-1] if known else moment

    def least_left(self, workload: str) -> float | None:
        """The least remaining seconds of an SVID when the next one was first seen; negative if that was too late."""
        lives = self.of.get(workload, [])
        return min((old.not_after - new.seen for old, new in pairwise(lives)), default=None)


def may_fail(connection: Connection, outages: Iterable[Outage], lives: SvidLives) -> bool:
    """Whether the SVID of a side expired in an outage while this connection lasted."""
    return any(_without_identity(connection.ends, connection, outage, lives) for outage in outages)


def _without_identity(ends: Sequence[str], connection: Connection, outage: Outage, lives: SvidLives) -> bool:
    over = max(outage.began, min(lives.end_known_at(workload, outage.began) for workload in ends))
    healed = connection.ended if outage.healed is None else outage.healed
    return connection.ended >= over and connection.began <= healed and over <= healed
