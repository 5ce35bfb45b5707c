"""Draws a report: one panel of bars for each workload. ``python -m bench.plot RESULTS.json`` redraws one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.report import SUBJECT, Report, Summary, WorkloadInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLUMNS = 4
_SUBJECT_COLOUR = "#c2410c"
_PEER_COLOUR = "#94a3b8"
_INK = "#1e293b"


def draw(report: Report, path: Path) -> Path:
    """Write the plot, in the format of the suffix. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib as mpl

    mpl.use("agg")
    # The same results give the same file, so that a diff shows only changes.
    mpl.rcParams["svg.hashsalt"] = "meshtls"
    from matplotlib.figure import Figure

    rows = -(-len(report.workloads) // _COLUMNS)
    figure = Figure(figsize=(3.6 * _COLUMNS, 2.6 * rows + 0.6), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for panel, workload in zip(panels, report.workloads, strict=False):
        _panel(panel, report, workload)
    for panel in list(panels)[len(report.workloads) :]:
        panel.set_visible(False)
    figure.suptitle(_title(report), fontsize=11, color=_INK)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _title(report: Report) -> str:
    machine = report.machine
    rounds = max((one.rounds for one in report.summary), default=0)
    where = f"{machine.cpus} CPUs ({machine.cpu}), Linux {machine.kernel}, {' '.join(machine.openssl.split()[:2])}"
    return f"Cost of a pair of proxies, mutual TLS 1.3 in between. Median of {rounds} rounds, less is better.\n{where}"


def _panel(panel: Axes, report: Report, workload: WorkloadInfo) -> None:
    names = [peer.name for peer in report.peers if peer.missing is None][::-1]
    panel.set_title(f"{workload.title}\n{workload.unit}", fontsize=9, color=_INK, loc="left")
    panel.set_xlim(0, 1.35 * max((one.median for one in report.summary if one.workload == workload.name), default=1))
    panel.set_ylim(-0.6, len(names) - 0.4)
    for row, name in enumerate(names):
        found = report.find(name, workload.name)
        _bar(panel, row, name, found)
    panel.set_yticks(range(len(names)), names, fontsize=9)
    panel.set_xticks([])
    panel.tick_params(length=0, colors=_INK)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _bar(panel: Axes, row: int, name: str, found: Summary | None) -> None:
    if found is None:
        panel.text(0, row, " n/a", va="center", fontsize=8, color=_PEER_COLOUR)
        return
    panel.barh(row, found.median, height=0.66, color=_SUBJECT_COLOUR if name == SUBJECT else _PEER_COLOUR)
    text = f" {found.median:.3g}"
    if found.workload == "beside":
        text += f", p99 {found.p99_ms:.3g}"
    panel.text(found.median, row, text, va="center", fontsize=8, color=_INK)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    sys.stdout.write(f"{draw(msgspec.json.decode(source.read_bytes(), type=Report), source.with_suffix('.svg'))}\n")
