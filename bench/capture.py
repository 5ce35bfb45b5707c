"""``python -m bench.capture``: what reading packets costs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bench.capture_frames import BARE, SIZES, FrameCost, frame_costs
from bench.capture_measuring import Measured, capture_table, measure_captures
from bench.capture_programs import PROGRAMS
from bench.certificates import make_certs
from bench.report import this_machine, write_report

__all__ = ["frame_table", "main"]

_RESULTS = Path(__file__).resolve().parent / "results"


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(0.01), default=0.5, show_default=True, help="For each figure of frames."
)
@click.option("--rounds", type=click.IntRange(0, 99), default=9, show_default=True, help="Of captures; 0 for none.")
@click.option("--packets", type=click.IntRange(100), default=60_000, show_default=True, help="Of each capture, about.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(seconds: float, rounds: int, packets: int, results: Path) -> None:
    """Print CPU-ns a frame of the lesson; then packets per second of one core, of captures, beside other programs."""
    machine = this_machine()
    click.echo(frame_table(frame_costs(seconds)))
    click.echo(f"\n{machine.load}")
    if not rounds:
        return
    for one in PROGRAMS.values():
        if one.missing:
            click.echo(f"left out: {one.name}: {one.missing}", err=True)
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-capture-") as name:
        report = measure_captures(
            [one for one in PROGRAMS.values() if not one.missing],
            rounds=rounds,
            packets=packets,
            certs=make_certs(Path(name)),
            directory=Path(name),
            progress=_tell,
        )
    write_report(report, results / "capture.json")
    click.echo(f"\n{capture_table(report)}")


def _tell(cell: Measured) -> None:
    rate = cell.packets_per_second
    told = cell.error or (f"{rate:,.0f} packets/s" if rate is not None else "too few packets to measure")
    click.echo(f"round {cell.round + 1}: {cell.program}: {cell.mix}: {told}", err=True)


def frame_table(costs: list[FrameCost]) -> str:
    """The costs as Markdown; in brackets the cost divided by the baseline's."""
    found = {(one.way, one.payloads): one for one in costs}
    mixes = list(SIZES)
    lines = [
        f"| frames | {' | '.join(f'payloads of {mix}: CPU-ns a frame | million/s of a core' for mix in mixes)} |",
        f"|---|{'---:|---:|' * len(mixes)}",
    ]
    for way in dict.fromkeys(one.way for one in costs):
        cells = []
        for mix in mixes:
            spent, bare = found[way, mix].nanoseconds, found[BARE, mix].nanoseconds
            cells += [f"{spent:.0f} ({spent / bare:.2f})", f"{1000 / spent:.1f}"]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="python -m bench.capture")
