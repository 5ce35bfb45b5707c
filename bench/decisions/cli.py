"""``python -m bench.decisions``: measure, print, write."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bench.decisions.figures import COUNTS, DecisionsReport, measure_all
from bench.decisions.live import measure_live
from bench.report import this_machine, write_report

__all__ = ["main", "plain"]

_RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"


@click.command()
@click.option("--quick", is_flag=True, help="Few rounds of few decisions: seconds, and rough.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", help="What to print.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(quick: bool, output: str, results: Path) -> None:
    """Measure the time of a decision with 1, 100 and 10,000 policies, and until a changed policy decides."""
    rounds, decisions, changes = (3, 2_000, 10) if quick else (15, 20_000, 200)
    started, machine = datetime.now(UTC).isoformat(timespec="seconds"), this_machine()
    report = DecisionsReport(started, machine, rounds, decisions, measure_all(rounds, decisions), measure_live(changes))
    encoded = write_report(report, results / "decisions.json")
    if output == "json":
        click.echo(encoded, nl=False)
    else:
        click.echo(plain(report))


def _policies(count: int) -> str:
    return f"{count:,} {'policy' if count == 1 else 'policies'}"


def plain(report: DecisionsReport) -> str:
    """The table as Markdown."""
    lines = [
        f"| CPU-µs a decision | {' | '.join(map(_policies, COUNTS))} | {COUNTS[-1]:,} to 1 |",
        f"|---|{'---:|' * (len(COUNTS) + 1)}",
    ]
    for name in dict.fromkeys(one.name for one in report.cells):
        found = [report.find(name, count) for count in COUNTS]
        figures = " | ".join(f"{one.microseconds:.2f}" for one in found)
        lines.append(f"| {name} | {figures} | {found[-1].times_one:.2f} |")
    if (live := report.live) is not None:
        lines.append(
            f"\nfrom a replaced policy file to the first request that it decides on, over {live.changes} changes:"
            f" {live.p50_ms:.0f} ms (p50), {live.p99_ms:.0f} ms (p99)"
        )
    lines.append(f"\n{report.machine.load}")
    return "\n".join(lines)
