"""``python -m bench.identity``: measure part after part, print a table, write JSON."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.cli import leave
from bench.identity.arrival import measure_embedded_arrival, measure_server_arrival
from bench.identity.crowd import measure_crowd
from bench.identity.cutting import measure_cuts
from bench.identity.figures import FULL, QUICK, Figure, IdentityReport, Progress, Scale, UnmeasuredError
from bench.identity.log_cost import measure_log_cost
from bench.identity.minting import measure_minting
from bench.identity.registry import measure_registry
from bench.identity.tainting import measure_taint
from bench.report import this_machine, write_report
from meshtls.errors import MeshtlsError

__all__ = ["PARTS", "main", "measure", "plain"]

_RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"
_LIMIT_S = 900.0

Part = Callable[[Path, Scale, Progress], Awaitable[list[Figure]]]


async def _minting(_: Path, scale: Scale, progress: Progress) -> list[Figure]:
    return await asyncio.to_thread(measure_minting, scale, progress)


PARTS: Mapping[str, Part] = {
    "minting": _minting,
    "arrival, embedded": measure_embedded_arrival,
    "arrival, server": measure_server_arrival,
    "agent": measure_crowd,
    "server": measure_registry,
    "log and audit": measure_log_cost,
    "revocation": measure_cuts,
    "taint": measure_taint,
}


@click.command()
@click.option("--quick", is_flag=True, help="Little of everything: about two minutes, and rough.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(quick: bool, output: Path) -> None:
    """Measure identities: minting, how soon an entry arrives, an agent's crowd, a registry, and how trust ends."""
    signal.signal(signal.SIGTERM, leave)
    logging.getLogger("meshtls").setLevel(logging.ERROR)
    console = Console(highlight=False)
    report = asyncio.run(measure(QUICK if quick else FULL, lambda line: console.print(line, markup=False)))
    if console.is_terminal:
        console.print(_table(report))
    else:
        console.print(plain(report), markup=False, soft_wrap=True)
    path = output / "identity.json"
    write_report(report, path)
    console.print(f"wrote {path}", markup=False)
    if report.failed:
        raise SystemExit(1)


async def measure(scale: Scale, progress: Progress, parts: Mapping[str, Part] = PARTS) -> IdentityReport:
    """Run each part separately: a failing one is named, and the others continue."""
    machine, began = this_machine(), datetime.now(UTC).isoformat(timespec="seconds")
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-") as name:
        for part, run in parts.items():
            progress(f"== {part}")
            try:
                async with asyncio.timeout(_LIMIT_S):
                    figures += await run(Path(name), scale, progress)
            except (UnmeasuredError, MeshtlsError, TimeoutError, OSError) as error:
                failed[part] = str(error) or type(error).__name__
                progress(f"failed: {failed[part]}")
    return IdentityReport(began, machine, scale, figures, failed)


def plain(report: IdentityReport) -> str:
    """The table as lines of text."""
    lines = [f"{one.part:<24}  {one.name:<48}  {_value(one):>20}  {one.note}".rstrip() for one in report.figures]
    return "\n".join([*lines, *_failures(report), report.machine.load])


def _table(report: IdentityReport) -> Table:
    table = Table(caption="\n".join([*_failures(report), report.machine.load]))
    for title in ("part", "figure", "", "what it is"):
        table.add_column(title, justify="left" if title else "right")
    last = ""
    for one in report.figures:
        if last not in ("", one.part):
            table.add_section()
        table.add_row("" if one.part == last else one.part, one.name, _value(one), one.note)
        last = one.part
    return table


def _value(figure: Figure) -> str:
    number = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
    return f"{number} {figure.unit}".rstrip()


def _failures(report: IdentityReport) -> list[str]:
    return [f"not measured: {part}: {why}" for part, why in report.failed.items()]
