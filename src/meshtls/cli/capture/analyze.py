"""``meshtls capture analyze``: a table of connections, their records as JSON, or one of them in full."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from meshtls.capture.analysis.connection import Connection, as_json
from meshtls.capture.analysis.oddities import oddities_of
from meshtls.capture.analysis.row import COLUMNS, NUMBERS, row_of
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.report.collecting import Report
from meshtls.capture.report.page import page
from meshtls.cli.capture.detail import detail_lines, detail_record, print_detail
from meshtls.cli.capture.reading import Captures, capture_options, counted, may_grow
from meshtls.cli.output import JsonLines, Output, Terminal, tell, tell_json
from meshtls.errors import RequestError

__all__ = ["analyze"]

#: Rows of the table; a longer capture is told to be read as ndjson.
_MOST_ROWS = 10_000
#: Numbers of connections without a known result.
_MOST_NAMED = 8
#: The least width of the terminal, in characters, for columns that are left out of a narrower one.
_LEAST_WIDTH = dict.fromkeys(("suite", "group"), 150) | dict.fromkeys(("resumed", "trips", "overhead"), 110)
_FOLDED = {"client": 12, "server": 12, "result": 8}


@click.command()
@click.argument("files", metavar="FILE|-...", nargs=-1, required=True)
@capture_options
@click.option("--detail", type=click.IntRange(1), metavar="N", help="All of connection N: records and message fields.")
@click.option(
    "--output",
    "form",
    type=click.Choice(["text", "json", "ndjson", "html"]),
    default="text",
    show_default=True,
    help="Text for people, JSON, one JSON object a line, each as soon as its connection is over, or one HTML page.",
)
def analyze(files: tuple[str, ...], keylog: Path | None, bundle: Path | None, detail: int | None, form: str) -> int:
    """List the connections of captures: who talked to whom, the handshake, what it cost, and how it ended.

    Without keys, TLS 1.3 hides certificates and alerts: what can't be known is "unknown", an estimate has a "~", and of
    padded or missing records "<=" or ">=".

    Each file is a capture of its own: join those of one that was rotated first (mergecap -w all.pcapng FILES).

    Exit code 1: a file is damaged.
    """
    out = Output(as_json=form in ("json", "ndjson"))
    if detail is not None and form == "html":
        raise RequestError("--detail: wanted --output text, json or ndjson; the HTML page has all connections")
    captures = Captures(out, keylog, bundle)
    if detail is not None:
        return _detail(captures, files, detail, form)
    if form == "html":
        return _page(captures, files)
    if form == "ndjson":
        return _lines(captures, files)
    found: list[Connection] = []
    left_out = 0
    for name in files:
        for one in captures.read(name):
            if form == "json" or len(found) < _MOST_ROWS:
                found.append(one)
            else:
                left_out += 1
    if form == "json":
        tell_json({"connections": [as_json(one) for one in sorted(found, key=_number)]}, indent=2)
    elif form == "text":
        _print(found)
        total = len(found) + left_out
        tell(f"{counted(total)}, {captures.packets} packets")
        if left_out:
            tell(f"{left_out} connections are not shown; use --output ndjson")
    return captures.exit_code


def _lines(captures: Captures, files: tuple[str, ...]) -> int:
    """Where somebody may wait for the next connection, its line is not held back."""
    with JsonLines(at_once=sys.stdout.isatty() or any(map(may_grow, files))) as lines:
        for name in files:
            for one in captures.read(name):
                lines.tell(as_json(one))
    return captures.exit_code


def _detail(captures: Captures, files: tuple[str, ...], wanted: int, form: str) -> int:
    if len(files) != 1:
        raise RequestError("--detail: wanted one file, got several")
    kept: list[tuple[Watched, Connection]] = []

    def keep(watched: Watched) -> None:
        if watched.flow.number + 1 == wanted:
            kept.append((watched, watched.record()))

    count = sum(1 for _ in captures.read(files[0], keep))
    if not kept:
        raise RequestError(f"--detail {wanted}: the capture has {counted(count)}")
    watched, connection = kept[0]
    if form != "text":
        tell_json(detail_record(watched, connection), indent=2 if form == "json" else None)
    else:
        tell(*detail_lines(connection), "")
        print_detail(watched)
    return captures.exit_code


def _page(captures: Captures, files: tuple[str, ...]) -> int:
    report = Report()
    for name in files:
        for one in captures.read(name, report.keep):
            report.add(one)
    for piece in page(report):
        tell(piece)
    return captures.exit_code


def _print(found: list[Connection]) -> None:
    console = Terminal(highlight=False)
    table = Table(box=None, pad_edge=False)
    shown = [column for column in COLUMNS if console.width >= _LEAST_WIDTH.get(column, 0)]
    for title in shown:
        folds = title in _FOLDED
        table.add_column(
            title,
            justify="right" if title in NUMBERS else "left",
            overflow="fold",
            no_wrap=not folds,
            min_width=_FOLDED.get(title),
        )
    found = sorted(found, key=_number)
    for one in found:
        cells = dict(zip(COLUMNS, row_of(one), strict=True))
        table.add_row(*(Text(cells[title]) for title in shown))
    console.print_table(table)
    for one in found:
        if one.problem:
            tell(f"#{one.number} {one.problem}")
        for note in oddities_of(one):
            tell(f"#{one.number} {note}")
    unknown = [one for one in found if one.unknown_because]
    if unknown:
        tell(f"{_named(unknown, 'without a known result')}: --detail N says why")
    guessed = [one for one in found if one.roles_guessed]
    if guessed:
        tell(f"{_named(guessed, 'whose ends are guessed by the ports')}: client and server may be the other way round")


def _named(found: list[Connection], what: str) -> str:
    """How many they are, what they are, and the numbers of the first."""
    numbers = ", ".join(f"#{one.number}" for one in found[:_MOST_NAMED])
    return f"{counted(len(found))} {what} ({numbers}{', ...' if len(found) > _MOST_NAMED else ''})"


def _number(one: Connection) -> int:
    return one.number
