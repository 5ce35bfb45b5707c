"""Totals over the connections of a capture. Bounded. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.row import Marks, marks_of

__all__ = ["Figures", "Quantiles"]

_MOST_TIMES, _MOST_KEYS, _TOP = 1 << 20, 1 << 16, 10


class Quantiles(NamedTuple):
    """Quantiles of durations in milliseconds, by nearest rank."""

    handshakes: int
    p50: float
    p90: float
    p99: float


class Figures:
    """What ``meshtls capture stats`` prints. Feed it each connection.

    ``estimated``, ``at_most``: of one connection at least, so of the sums too.
    """

    def __init__(self) -> None:
        self.connections = self.wire_bytes = self.application_bytes = self.retransmitted = self.lost_bytes = 0
        self.cut_bytes = self.conflicts = self.strange = 0
        self.estimated = self.at_most = False
        self._real_wire_bytes = self._real_application_bytes = 0
        self.tables: dict[str, Counter[str]] = {
            name: Counter() for name in ("protocol", "version", "suite", "group", "mutual", "resumed", "outcome")
        }
        self.talkers: Counter[str] = Counter()
        self._times: list[float] = []

    def add(self, one: Connection) -> None:
        """Count a connection."""
        self.connections += 1
        self.wire_bytes += one.wire_bytes
        self.application_bytes += one.application_bytes
        self.estimated, self.at_most = self.estimated or one.estimated, self.at_most or one.at_most
        if not one.synthetic:
            self._real_wire_bytes += one.wire_bytes
            self._real_application_bytes += one.application_bytes
        self.retransmitted += one.client.retransmitted + one.server.retransmitted
        self.lost_bytes += one.client.lost_bytes + one.server.lost_bytes
        self.cut_bytes += one.client.cut_bytes + one.server.cut_bytes
        self.conflicts += one.client.conflicts + one.server.conflicts
        self.strange += one.client.strange + one.server.strange
        values = {"protocol": one.protocol, "outcome": one.outcome.name if one.outcome is not None else "not known"}
        shake = one.handshake
        if shake is not None:
            values |= {"version": shake.version, "suite": shake.suite, "group": shake.group}
            values |= {"mutual": shake.mutual_shown, "resumed": shake.resumed}
            if shake.ms is not None and len(self._times) < _MOST_TIMES:
                self._times.append(shake.ms)
        for name, value in values.items():
            if value:
                _count(self.tables[name], value, 1)
        # A client has another port with each connection.
        client = one.client.address.rpartition(":")[0]
        _count(self.talkers, f"{client} -> {one.server.address}", one.wire_bytes)

    @property
    def handshake_ms(self) -> Quantiles | None:
        """How long the complete handshakes took."""
        times = sorted(self._times)
        if not times:
            return None
        return Quantiles(len(times), *(times[min(len(times) - 1, len(times) * part // 100)] for part in (50, 90, 99)))

    @property
    def overhead(self) -> float | None:
        """Bytes on the wire that are not application data, for each byte that is; without connections whose headers are
        synthetic."""
        useful = self._real_application_bytes
        return (self._real_wire_bytes - useful) / useful if useful else None

    @property
    def marks(self) -> Marks:
        """What is written before ``application_bytes`` and ``overhead``."""
        return marks_of(estimated=self.estimated, at_most=self.at_most)

    def most(self, name: str) -> list[tuple[str, int]]:
        """The most frequent values of a table, or the ``top_talkers`` with their bytes on the wire."""
        return (self.talkers if name == "top_talkers" else self.tables[name]).most_common(_TOP)

    def record(self) -> dict[str, object]:
        """The figures for JSON."""
        times = self.handshake_ms
        return {
            "connections": self.connections,
            "wire_bytes": self.wire_bytes,
            "application_bytes": self.application_bytes,
            "estimated": self.estimated,
            "at_most": self.at_most,
            "overhead": self.overhead,
            "retransmitted": self.retransmitted,
            "lost_bytes": self.lost_bytes,
            "cut_bytes": self.cut_bytes,
            "conflicts": self.conflicts,
            "strange": self.strange,
            "handshake_ms": times._asdict() if times is not None else None,
            **{name: dict(table.most_common(_TOP)) for name, table in self.tables.items()},
            "top_talkers": dict(self.talkers.most_common(_TOP)),
        }


def _count(table: Counter[str], key: str, by: int) -> None:
    table[key if key in table or len(table) < _MOST_KEYS else "others"] += by
