"""Draws panels of bars, one row for each name; of a report, one panel for each workload.

``python -m bench.plot RESULTS.json`` redraws one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.report import SUBJECT, Machine, Report, Summary, WorkloadInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bar", "Panel", "draw", "draw_panels", "place"]

_COLUMNS = 4
_SUBJECT_COLOUR = "#c2410c"
_PEER_COLOUR = "#94a3b8"
_INK = "#1e293b"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a panel. ``value`` is None where nothing was measured; ``ours`` is drawn in the colour of meshtls."""

    name: str
    value: float | None
    text: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of bars, the first of them at the top."""

    title: str
    unit: str
    bars: Sequence[Bar]


def draw_panels(title: str, panels: Sequence[Panel], path: Path, columns: int = _COLUMNS) -> Path:
    """Write the plot, in the format of the suffix. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib as mpl

    mpl.use("agg")
    # The same results give the same file, so that a diff shows only changes.
    mpl.rcParams["svg.hashsalt"] = "meshtls"
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows + 0.6), layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one, panel in zip(axes, panels, strict=False):
        _panel(one, panel)
    for one in axes[len(panels) :]:
        one.set_visible(False)
    figure.suptitle(title, fontsize=11, color=_INK)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def draw(report: Report, path: Path) -> Path:
    """Write the plot of a report. Raises ModuleNotFoundError without matplotlib."""
    return draw_panels(_title(report), [_of(report, workload) for workload in report.workloads], path)


def place(machine: Machine) -> str:
    """The machine in one line, for a title."""
    return f"{machine.cpus} CPUs ({machine.cpu}), Linux {machine.kernel}, {' '.join(machine.openssl.split()[:2])}"


def _title(report: Report) -> str:
    rounds = max((one.rounds for one in report.summary), default=0)
    heading = f"Cost of a pair of proxies, mutual TLS 1.3 in between. Median of {rounds} rounds, less is better."
    return f"{heading}\n{place(report.machine)}"


def _of(report: Report, workload: WorkloadInfo) -> Panel:
    names = [peer.name for peer in report.peers if peer.missing is None]
    found = [(name, report.find(name, workload.name)) for name in names]
    bars = [Bar(name, None if one is None else one.median, _text(one), name == SUBJECT) for name, one in found]
    return Panel(workload.title, workload.unit, bars)


def _text(found: Summary | None) -> str:
    if found is None:
        return "n/a"
    return f"{found.median:.3g}" + (f", p99 {found.p99_ms:.3g}" if found.workload == "beside" else "")


def _panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(f"{panel.title}\n{panel.unit}", fontsize=9, color=_INK, loc="left")
    axes.set_xlim(0, 1.35 * max((bar.value for bar in panel.bars if bar.value is not None), default=1))
    axes.set_ylim(-0.6, len(panel.bars) - 0.4)
    for row, bar in enumerate(reversed(panel.bars)):
        if bar.value is None:
            axes.text(0, row, f" {bar.text}", va="center", fontsize=8, color=_PEER_COLOUR)
            continue
        axes.barh(row, bar.value, height=0.66, color=_SUBJECT_COLOUR if bar.ours else _PEER_COLOUR)
        axes.text(bar.value, row, f" {bar.text}", va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(panel.bars)), [bar.name for bar in reversed(panel.bars)], fontsize=9)
    axes.set_xticks([])
    axes.tick_params(length=0, colors=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    sys.stdout.write(f"{draw(msgspec.json.decode(source.read_bytes(), type=Report), source.with_suffix('.svg'))}\n")
