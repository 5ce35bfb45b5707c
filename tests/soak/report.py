"""The result of a run: a table for people, JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.table import Table

from tests.soak.resources import Trend

__all__ = ["Figure", "Report", "rows", "table"]


class Figure(msgspec.Struct, frozen=True):
    """One line of the table: a count or measurement, with a note if it needs one."""

    part: str
    name: str
    value: float
    note: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``violations`` are listed one by one; a run without any has passed. ``kept`` is the directory of a failed run."""

    seed: int
    seconds: float
    figures: list[Figure]
    trends: list[Trend]
    violations: list[str]
    kept: str | None = None

    @property
    def exit_status(self) -> int:
        return 1 if self.violations else 0


def rows(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """Part, name, value and note."""
    for one in report.figures:
        yield one.part, one.name, f"{one.value:,.0f}" if one.value == int(one.value) else f"{one.value:,.2f}", one.note
    for trend in report.trends:
        unit = " MiB" if trend.quantity == "memory" else ""
        grown = "too short" if trend.growth is None else f"{trend.growth:+.1f}{unit}"
        note = (
            f"{trend.first:.0f} to {trend.last:.0f}{unit}, at most {trend.highest:.0f}, in {trend.seconds:.0f} s;"
            f" allowed {trend.allowed:.1f}"
        )
        yield trend.quantity, trend.process, grown, note


def table(report: Report) -> Table:
    made = Table(title=f"seed {report.seed}, {report.seconds:.0f} s")
    for title in ("part", "figure", "", "note"):
        made.add_column(title, justify="left" if title else "right")
    last = ""
    for part, name, value, note in rows(report):
        if last not in ("", part):
            made.add_section()
        made.add_row("" if part == last else part, name, value, note)
        last = part
    return made
