"""``python -m bench.capture``: what reading packets costs."""

from __future__ import annotations

import click

from bench.capture_frames import BARE, SIZES, FrameCost, frame_costs
from bench.report import this_machine

__all__ = ["frame_table", "main"]


@click.command()
@click.option("--seconds", type=click.FloatRange(0.01), default=0.5, show_default=True, help="For each figure.")
def main(seconds: float) -> None:
    """Print CPU-ns a frame, and frames per second of one core."""
    machine = this_machine()
    click.echo(frame_table(frame_costs(seconds)))
    click.echo(f"\n{machine.load}")


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
