"""The result of a run: every measurement, and the summaries. Pure but for the machine's description."""

from __future__ import annotations

import os
import platform
import ssl
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from bench.workloads import Scale

__all__ = [
    "SUBJECT",
    "Cell",
    "Machine",
    "PeerInfo",
    "Report",
    "Summary",
    "WorkloadInfo",
    "summarize",
    "this_machine",
    "write_report",
]

SUBJECT = "meshtls"


class Machine(msgspec.Struct, frozen=True):
    """The machine. ``load_average`` is that of the minute before the run: other work makes every figure worse."""

    cpu: str
    cpus: int
    kernel: str
    python: str
    openssl: str
    load_average: float

    @property
    def load(self) -> str:
        """The load, in words."""
        return f"load average before the run: {self.load_average:.1f} on {self.cpus} CPUs"


class PeerInfo(msgspec.Struct, frozen=True):
    """A requested peer; ``missing`` says why it was not measured."""

    name: str
    version: str | None = None
    missing: str | None = None


class WorkloadInfo(msgspec.Struct, frozen=True):
    """A workload's name and unit; lower is better in every unit."""

    name: str
    title: str
    unit: str


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measurement: a value, or an error."""

    peer: str
    workload: str
    round: int
    value: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    seconds: float | None = None
    units: int | None = None
    error: str | None = None


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Medians over the rounds. ``ratio`` is the median of meshtls/peer within a round: under 1, meshtls is cheaper."""

    peer: str
    workload: str
    rounds: int
    median: float
    low: float
    high: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    ratio: float | None = None


class Report(msgspec.Struct, frozen=True):
    """The whole report, as written to JSON."""

    started: str
    machine: Machine
    generator: str
    scale: Scale
    peers: list[PeerInfo]
    workloads: list[WorkloadInfo]
    cells: list[Cell]
    summary: list[Summary]

    def find(self, peer: str, workload: str) -> Summary | None:
        """The summary of one peer in one workload, if it was measured."""
        return next((one for one in self.summary if (one.peer, one.workload) == (peer, workload)), None)


def summarize(cells: Sequence[Cell]) -> list[Summary]:
    """One summary for each peer and workload with a value, in the order of their first measurement."""
    pairs = dict.fromkeys((cell.peer, cell.workload) for cell in cells if cell.value is not None)
    return [_summary(peer, workload, cells) for peer, workload in pairs]


def _summary(peer: str, workload: str, cells: Sequence[Cell]) -> Summary:
    own = _by_round(peer, workload, cells)
    subject = _by_round(SUBJECT, workload, cells)
    values = [value for value, _ in own.values()]
    return Summary(
        peer=peer,
        workload=workload,
        rounds=len(values),
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        p50_ms=_median(cell.p50_ms for _, cell in own.values()),
        p99_ms=_median(cell.p99_ms for _, cell in own.values()),
        ratio=_median(subject[number][0] / own[number][0] for number in own if number in subject and own[number][0]),
    )


def _by_round(peer: str, workload: str, cells: Sequence[Cell]) -> dict[int, tuple[float, Cell]]:
    mine = (cell for cell in cells if (cell.peer, cell.workload) == (peer, workload))
    return {cell.round: (cell.value, cell) for cell in mine if cell.value is not None}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def this_machine() -> Machine:
    """The description of this machine."""
    return Machine(
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        kernel=".".join(platform.release().split(".")[:2]),
        python=platform.python_version(),
        openssl=ssl.OPENSSL_VERSION,
        load_average=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return next(names, platform.machine())


def write_report(report: msgspec.Struct, path: Path) -> bytes:
    """Write a run's result as JSON, in a directory that may be missing. Returns what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    path.write_bytes(encoded)
    return encoded
