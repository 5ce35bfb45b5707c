"""A report as a table for the terminal, and as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.table import Table

from bench.identity.figures import Figure, IdentityReport

__all__ = ["number", "plain", "table", "value"]


def plain(report: IdentityReport) -> str:
    """The figures as lines of text, and the comparison as Markdown."""
    alone = (one for one in report.figures if not one.peer)
    lines = [f"{one.part:<24}  {one.name:<48}  {value(one):>20}  {one.note}".rstrip() for one in alone]
    return "\n".join([*lines, *_comparison_lines(report), *_left_out(report), report.machine.load])


def table(report: IdentityReport) -> Group:
    """The same for a terminal."""
    figures = Table()
    for title in ("part", "figure", "", "what it is"):
        figures.add_column(title, justify="left" if title else "right")
    last = ""
    for one in (one for one in report.figures if not one.peer):
        if last not in ("", one.part):
            figures.add_section()
        figures.add_row("" if one.part == last else one.part, one.name, value(one), one.note)
        last = one.part
    shown = [one for one in (figures, _comparison(report)) if one.row_count]
    return Group(*shown, *_left_out(report), report.machine.load)


def value(figure: Figure) -> str:
    """The figure with its unit, in three digits."""
    return f"{number(figure)} {figure.unit}".rstrip()


def number(figure: Figure) -> str:
    """The figure without its unit."""
    return f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.3g}"


def _comparison(report: IdentityReport) -> Table:
    found = Table()
    found.add_column("figure")
    for peer in report.peers:
        found.add_column(peer, justify="right")
    for row in _rows(report):
        found.add_row(*row)
    return found


def _comparison_lines(report: IdentityReport) -> list[str]:
    if not report.peers:
        return []
    head = [f"| | {' | '.join(report.peers)} |", f"|---|{'---:|' * len(report.peers)}"]
    return ["", *head, *(f"| {' | '.join(row)} |" for row in _rows(report)), ""]


def _rows(report: IdentityReport) -> Iterable[list[str]]:
    found = {(one.name, one.peer): one for one in report.compared}
    for name in dict.fromkeys(one.name for one in report.compared):
        row = [found.get((name, peer)) for peer in report.peers]
        yield [name, *("-" if one is None else value(one) for one in row)]


def _left_out(report: IdentityReport) -> list[str]:
    return [f"not measured: {part}: {why}" for part, why in (report.failed | report.missing).items()]
