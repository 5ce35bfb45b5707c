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

from bench.cli import chosen_of, leave
from bench.identity.arrival import measure_embedded_arrival, measure_server_arrival
from bench.identity.beside import PART, measure_beside
from bench.identity.crowd import measure_crowd
from bench.identity.cutting import measure_cuts
from bench.identity.figures import (
    FULL,
    QUICK,
    Figure,
    IdentityReport,
    MissingError,
    Progress,
    Scale,
    UnmeasuredError,
)
from bench.identity.log_cost import measure_log_cost
from bench.identity.minting import measure_minting
from bench.identity.plot import draw
from bench.identity.registry import measure_registry
from bench.identity.signatures import measure_signatures
from bench.identity.table import plain, table
from bench.identity.tainting import measure_taint
from bench.identity.waiting import within
from bench.peers.meshtls import Meshtls
from bench.peers.spire import Spire
from bench.report import this_machine, write_report
from meshtls.errors import MeshtlsError

__all__ = ["PARTS", "main", "measure"]

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
    "signatures": measure_signatures,
    PART: measure_beside,
}


@click.command()
@click.option("--quick", is_flag=True, help="Little of everything: about three minutes, and rough.")
@click.option("--part", metavar="NAME,...", help="These parts instead of all; commas in a name are left out.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(quick: bool, part: str | None, output: Path) -> None:
    """Measure identities: minting, how soon an entry arrives, many of them, how trust ends, and SPIRE beside it."""
    signal.signal(signal.SIGTERM, leave)
    logging.getLogger("meshtls").setLevel(logging.ERROR)
    console = Console(highlight=False)
    parts = dict(chosen_of("part", part, {name.replace(",", ""): (name, run) for name, run in PARTS.items()}))
    report = asyncio.run(measure(QUICK if quick else FULL, lambda line: console.print(line, markup=False), parts))
    if console.is_terminal:
        console.print(table(report))
    else:
        console.print(plain(report), markup=False, soft_wrap=True)
    path = output / "identity.json"
    write_report(report, path)
    console.print(f"wrote {path}", markup=False)
    try:
        console.print(f"wrote {draw(report, output / 'identity.svg')}", markup=False)
    except MissingError as error:
        console.print(f"no plot: {error}", markup=False)
    except ModuleNotFoundError as error:
        command = f"pip install matplotlib, then python -m bench.identity.plot {path}"
        console.print(f"no plot: {error}; {command}", markup=False)
    if report.failed:
        raise SystemExit(1)


async def measure(scale: Scale, progress: Progress, parts: Mapping[str, Part] = PARTS) -> IdentityReport:
    """Run each part separately: one that fails, or lacks what it needs, is named, and the others continue."""
    machine, began = this_machine(), datetime.now(UTC).isoformat(timespec="seconds")
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-") as name:
        for part, run in parts.items():
            progress(f"== {part}")
            try:
                async with within(_LIMIT_S, "all of the part"):
                    figures += await run(Path(name), scale, progress)
            except MissingError as error:
                missing[part] = str(error)
                progress(f"not measured: {error}")
            except (UnmeasuredError, MeshtlsError, TimeoutError, OSError) as error:
                failed[part] = str(error) or type(error).__name__
                progress(f"failed: {failed[part]}")
    versions = {one.name: one.version() for one in (Meshtls(), Spire()) if one.missing() is None}
    return IdentityReport(began, machine, scale, figures, failed, missing, versions)
