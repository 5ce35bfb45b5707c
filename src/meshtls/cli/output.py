"""The output of the command line: text for people (plain if not on a terminal), or JSON for programs.

Everything that the command line prints goes through this module. Names, paths and messages may come from anywhere, and
must not control the terminal or forge lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from meshtls.printable import json_line, printable, printable_json, printable_lines

__all__ = ["JsonLines", "Lines", "Output", "Record", "Terminal", "tell", "tell_json", "tell_progress", "wants_json"]

Record = Mapping[str, object]
_WIDTH = 24
#: Characters of lines that are printed at once.
_BLOCK = 1 << 16
#: Columns, where there are none to fit into.
_UNLIMITED = 10_000


class Lines(tuple[str, ...]):
    """The value of a field that has a line for each of its texts."""

    __slots__ = ()


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether this command line has ``--output json``, or ``ndjson``, even if it is invalid and was not parsed."""
    form = ""
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word == "--output":
            form = next(words, "")
        elif word.startswith("--output="):
            form = word.partition("=")[2]
    return form in ("json", "ndjson")


def tell(*lines: str, err: bool = False) -> None:
    """Print each argument as one line, or an empty line if there is none."""
    click.echo("\n".join(map(printable, lines)), err=err)


def tell_json(value: object, *, indent: int | None = None, err: bool = False) -> None:
    """Print ``value`` as JSON, in one line without ``indent``."""
    click.echo(printable_json(json.dumps(value, indent=indent)), err=err)


class JsonLines:
    """Prints JSON objects, a line each. What waits is printed when the context ends, by an exception also.

    ``at_once``: each line as soon as it is there, which costs a system call each; otherwise in blocks.
    """

    def __init__(self, *, at_once: bool) -> None:
        self._most = 0 if at_once else _BLOCK
        self._waiting: list[str] = []
        self._size = 0

    def tell(self, value: object) -> None:
        """Print ``value``, now or with the next block."""
        line = json_line(value)
        self._waiting.append(line)
        self._size += len(line)
        if self._size >= self._most:
            self._print()

    def _print(self) -> None:
        lines, self._waiting, self._size = self._waiting, [], 0
        if lines:
            click.echo("\n".join(lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._print()


def tell_progress(text: str, *, last: bool) -> None:
    """Print progress on standard error, a terminal, over the progress before; ``last`` ends the line."""
    click.echo(f"\r{printable(text)}", nl=last, err=True)


class Terminal(Console):
    """rich's console, which sends its own control codes but none from the text that it prints.

    Where the output is no terminal, no line is wrapped, so that ``grep`` finds an ID.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        if not self.is_terminal and "width" not in given and "COLUMNS" not in os.environ:
            self.width = _UNLIMITED

    def print_table(self, table: Table) -> None:
        """Print the table, without spaces at the end of its lines where the output is no terminal."""
        if self.is_terminal:
            self.print(table)
            return
        with self.capture() as printed:
            self.print(table)
        lines = printed.get().rstrip("\n").split("\n")
        self.print("\n".join(line.rstrip(" ") for line in lines), markup=False, soft_wrap=True)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)


class Output:
    """The answers of a verb. A record is one JSON object, or as text one line for each field that is not empty."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, record: Record, text: str | None = None) -> None:
        """One answer; ``text`` replaces the fields as text."""
        if self.as_json:
            tell_json(record, indent=2)
        elif text is not None:
            tell(*text.split("\n"))
        else:
            self._block(record)

    def records(self, name: str, records: Sequence[Record]) -> None:
        """A list of records, in JSON the single member ``name``."""
        if self.as_json:
            tell_json({name: records}, indent=2)
            return
        for place, record in enumerate(records):
            if place:
                tell()
            self._block(record)
        if not records:
            tell(f"no {name}")

    def event(self, record: Record, text: str) -> None:
        """One of several answers over time, one line each, also in JSON."""
        if self.as_json:
            tell_json(record)
        else:
            tell(text)

    def notice(self, text: str) -> None:
        """A remark beside an answer, on standard error."""
        self._beside({"notice": text}, text)

    def error(self, kind: str, message: str, exit_code: int, problems: Sequence[str] = ()) -> None:
        """The reason why there is no answer, on standard error: one line of JSON, or a sentence for each problem.

        Further lines of a sentence are indented, so that they don't look like other errors.
        """
        if self.as_json:
            record = {"kind": kind, "message": message, "exit_code": exit_code}
            tell_json({"error": record | ({"problems": list(problems)} if problems else {})}, err=True)
            return
        for one in problems or (message,):
            self._beside({}, one)

    def _beside(self, record: Record, text: str) -> None:
        if self.as_json:
            tell_json(record, err=True)
        else:
            first, *others = text.split("\n")
            told = (line if line.startswith(" ") else f"  {line}" for line in others)
            tell(f"meshtls: {first}", *told, err=True)

    def _block(self, record: Record) -> None:
        console = Terminal(highlight=False, soft_wrap=True)
        for name, value in record.items():
            if value:
                label = f"{name.replace('_', ' '):<{_WIDTH - 1}} "
                for line in value if isinstance(value, Lines) else (value,):
                    words = ", ".join(map(str, line)) if isinstance(line, list | tuple) else str(line)
                    words = "yes" if line is True else printable(words)
                    console.print(Text.assemble((label, "dim"), words))
                    label = " " * len(label)
