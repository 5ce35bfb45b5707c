"""``python -m bench``: choose, measure, print, write."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import click
from rich.console import Console
from rich.table import Table

from bench.peers import all_peers
from bench.peers.base import Peer
from bench.plot import draw
from bench.report import SUBJECT, Cell, PeerInfo, Report, write_report
from bench.run import measure_all
from bench.workloads import FULL, QUICK, WORKLOADS, Workload

__all__ = ["Found", "chosen_of", "leave", "look_at", "main"]

T = TypeVar("T")
_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "bench" / "results"
_QUIET_LOAD = 0.5


@click.command()
@click.option("--quick", is_flag=True, help="One round on a small scale: under two minutes, and rough.")
@click.option("--only", metavar="NAME,...", help="These peers instead of all installed ones.")
@click.option("--workload", metavar="NAME,...", help="These workloads instead of all.")
@click.option("--rounds", type=click.IntRange(1, 50), help="Default: 3, with --quick 1.")
@click.option("--load-in-python", is_flag=True, help="Don't compile load.c, even if there is a compiler.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(
    quick: bool, only: str | None, workload: str | None, rounds: int | None, load_in_python: bool, output: Path
) -> None:
    """Measure meshtls beside other proxies: pairs of them, mutual TLS in between, all on loopback."""
    signal.signal(signal.SIGTERM, leave)
    console = Console(highlight=False)
    chosen = chosen_of("workload", workload, {one.name: one for one in WORKLOADS})
    asked = chosen_of("only", only, {peer.name: peer for peer in all_peers(_ROOT)})
    infos = [look_at(peer, console) for peer in asked]
    peers = [peer for peer, info in zip(asked, infos, strict=True) if info.missing is None]
    if not peers:
        raise click.ClickException("none of these peers can be measured here")
    rounds = rounds or (1 if quick else 3)
    report = measure_all(
        peers,
        chosen,
        QUICK if quick else FULL,
        rounds=rounds,
        progress=_Progress(console, _total(peers, chosen, rounds)),
        infos=infos,
        in_python=load_in_python,
    )
    console.print(_table(report))
    if report.machine.load_average > _QUIET_LOAD:
        console.print(f"load average before the run: {report.machine.load_average:.1f}; other work makes figures worse")
    _write(report, output, console)
    if any(cell.error for cell in report.cells):
        raise SystemExit(1)


class _Progress:
    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done = console, total, 0

    def __call__(self, cell: Cell) -> None:
        self._done += 1
        said = f"failed: {cell.error}" if cell.value is None else f"{cell.value:.3g}"
        place = f"[{self._done}/{self._total}] round {cell.round + 1}"
        self._console.print(f"{place}  {cell.workload:<10} {cell.peer:<8} {said}", markup=False)


def leave(number: int, _: object) -> NoReturn:
    """Exit on a signal by an exception, so that all started processes are stopped."""
    sys.exit(128 + number)


def chosen_of(option: str, text: str | None, known: dict[str, T]) -> Sequence[T]:
    """The items of a comma-separated list, or all. Raises click.BadParameter."""
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            raise click.BadParameter(f"wanted some of {', '.join(known)}, got {name!r}", param_hint=f"--{option}")
    return [known[name] for name in names]


class Found(Protocol):
    """Something that may be installed here: a peer or a contender."""

    @property
    def name(self) -> str: ...
    def missing(self) -> str | None: ...
    def version(self) -> str: ...


def look_at(peer: Found, console: Console) -> PeerInfo:
    """Its version, or why it is missing; also prints that."""
    missing = peer.missing()
    info = PeerInfo(peer.name, None if missing else peer.version(), missing)
    console.print(f"{peer.name}: {info.version or f'not measured: {missing}'}", markup=False)
    return info


def _total(peers: Iterable[Peer], workloads: Sequence[Workload], rounds: int) -> int:
    return rounds * sum(peer.supports(workload.setup) for peer in peers for workload in workloads)


def _table(report: Report) -> Table:
    table = Table(caption=f"Medians; in brackets {SUBJECT}'s cost divided by that: under 1, {SUBJECT} is cheaper.")
    measured = [peer.name for peer in report.peers if peer.missing is None]
    table.add_column("workload", no_wrap=True)
    for name in measured:
        table.add_column(name, justify="right")
    for workload in report.workloads:
        cells = (_text(report, name, workload.name) for name in measured)
        table.add_row(f"{workload.name}, {workload.unit}", *cells)
    return table


def _text(report: Report, peer: str, workload: str) -> str:
    found = report.find(peer, workload)
    if found is None:
        failed = any(cell.error for cell in report.cells if (cell.peer, cell.workload) == (peer, workload))
        return "failed" if failed else "n/a"
    value = f"{found.median:.3g}"
    if workload == "beside":
        value += f", p99 {found.p99_ms:.3g}"
    return value if found.ratio is None or peer == SUBJECT else f"{value} ({found.ratio:.2f})"


def _write(report: Report, directory: Path, console: Console) -> None:
    path = directory / "results.json"
    write_report(report, path)
    console.print(f"wrote {path}")
    try:
        console.print(f"wrote {draw(report, directory / 'results.svg')}")
    except ModuleNotFoundError as error:
        console.print(f"no plot: {error}; pip install matplotlib, then python -m bench.plot {path}")
