"""``python -m bench.strangers``: choose, measure, print, write."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.cli import chosen_of, leave, look_at
from bench.report import write_report
from bench.strangers.attacks import STRANGERS
from bench.strangers.figures import FULL, QUICK, Range, StrangersReport, Summary
from bench.strangers.run import measure_all
from bench.strangers.targets import all_contenders

__all__ = ["main", "plain"]

_ROOT = Path(__file__).resolve().parents[2]
_RESULTS = _ROOT / "bench" / "results"
_COLUMNS = (
    "CPU-ms",
    "times a foreign one",
    "bytes sent",
    "bytes received",
    "memory, KiB",
    "longest wait, s",
    "calm, s",
    "friends failed",
    "cut",
)


@click.command()
@click.option("--quick", is_flag=True, help="One round on a small scale: rough.")
@click.option("--only", metavar="NAME,...", help="These peers instead of all installed ones.")
@click.option("--stranger", metavar="NAME,...", help="These strangers instead of all.")
@click.option("--rounds", type=click.IntRange(1, 50), help="Default: 3, with --quick 1.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", help="What to print.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(quick: bool, only: str | None, stranger: str | None, rounds: int | None, output: str, results: Path) -> None:
    """Measure the cost of refused strangers for a server, and for friendly clients beside them."""
    signal.signal(signal.SIGTERM, leave)
    logging.getLogger("meshtls").setLevel(logging.ERROR)
    console = Console(highlight=False, stderr=True)
    strangers = chosen_of("stranger", stranger, {one.name: one for one in STRANGERS})
    asked = chosen_of("only", only, {one.name: one for one in all_contenders(_ROOT)})
    infos = [look_at(one.peer, console) for one in asked]
    found = [one for one, info in zip(asked, infos, strict=True) if info.missing is None]
    if not found:
        raise click.ClickException("none of these peers can be measured here")
    report = asyncio.run(
        measure_all(
            found,
            strangers,
            QUICK if quick else FULL,
            rounds=rounds or (1 if quick else 3),
            progress=lambda line: console.print(line, markup=False, soft_wrap=True),
            infos=infos,
        )
    )
    path = results / "strangers.json"
    encoded = write_report(report, path)
    if output == "json":
        click.echo(encoded, nl=False)
    elif (said := Console(highlight=False)).is_terminal:
        said.print(_table(report))
    else:
        click.echo(plain(report))
    console.print(f"wrote {path}", markup=False)
    if report.errors():
        raise SystemExit(1)


def plain(report: StrangersReport) -> str:
    """The table as Markdown, and what failed."""
    head = ["stranger", "peer", *_COLUMNS]
    rows = [head, ["---", "---", *("---:" for _ in _COLUMNS)], *_rows(report)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *_notes(report)])


def _table(report: StrangersReport) -> Table:
    table = Table(caption="\n".join(_notes(report)))
    for title in ("stranger", "peer"):
        table.add_column(title, no_wrap=True)
    for title in _COLUMNS:
        table.add_column(title, justify="right")
    last = ""
    for title, *cells in _rows(report):
        if last not in ("", title):
            table.add_section()
        table.add_row("" if title == last else title, *cells)
        last = title
    return table


def _rows(report: StrangersReport) -> list[list[str]]:
    measured = [peer.name for peer in report.peers if peer.missing is None]
    return [
        [stranger.title, peer, *_figures(report, peer, stranger.name)]
        for stranger in report.strangers
        for peer in measured
    ]


def _figures(report: StrangersReport, peer: str, stranger: str) -> list[str]:
    found = report.find(peer, stranger)
    if found is None:
        failed = any((cell.peer, cell.stranger) == (peer, stranger) for cell in report.errors())
        return ["failed" if failed else "-", *("-" for _ in _COLUMNS[1:])]
    return [
        _text(found.cpu_ms),
        _text(found.of_foreign) if found.chains else "-",
        _text(found.sent_bytes),
        _text(found.received_bytes),
        _text(found.memory_kib),
        _text(found.wait_s),
        _text(found.calm_wait_s),
        f"{found.friends_failed} of {found.friends}" if found.friends else "-",
        f"{found.cut} of {found.strangers}",
    ]


def _text(figure: Range | None) -> str:
    if figure is None:
        return "-"
    low, median, high = map(_number, (figure.low, figure.median, figure.high))
    return median if low == high else f"{median} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"


def _notes(report: StrangersReport) -> list[str]:
    chains = [_chain(one) for one in report.summary if one.chains]
    failed = [f"failed: {one.stranger}, {one.peer}, round {one.round + 1}: {one.error}" for one in report.errors()]
    return [*failed, *chains, report.machine.load]


def _chain(summary: Summary) -> str:
    return f"{summary.stranger} at {summary.peer}: {', '.join(summary.chains)}"
