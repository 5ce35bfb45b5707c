"""What a verb says on standard output: for people, plain where that is no terminal, or JSON for programs.

Nothing of the command line prints but by what is here: names, paths and messages come from anywhere, and none of them
may rule the terminal or make up lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from meshtls.printable import printable, printable_json, printable_lines

__all__ = ["Output", "Record", "Terminal", "tell", "tell_json", "tell_progress", "wants_json"]

Record = Mapping[str, object]
_WIDTH = 24


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether this command line says ``--output json``: also one that is wrong, whose options nobody has read."""
    form = ""
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word == "--output":
            form = next(words, "")
        elif word.startswith("--output="):
            form = word.partition("=")[2]
    return form == "json"


def tell(*lines: str, err: bool = False) -> None:
    """Print each of these as one line; without any, an empty one."""
    click.echo("\n".join(map(printable, lines)), err=err)


def tell_json(value: object, *, indent: int | None = None, err: bool = False) -> None:
    """Print this as JSON, in one line where there is no ``indent``."""
    click.echo(printable_json(json.dumps(value, indent=indent)), err=err)


def tell_progress(text: str, *, last: bool) -> None:
    """Print this on a terminal's standard error in place of the progress before it, and end the line with the last."""
    click.echo(f"\r{printable(text)}", nl=last, err=True)


class Terminal(Console):
    """rich's console; the controls that it sends are its own, and none comes from what it is given to print."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)


class Output:
    """A record is one JSON object. For people it is a line for each field that says something."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, record: Record, text: str | None = None) -> None:
        """One answer; ``text`` is what people are told instead of the fields."""
        if self.as_json:
            tell_json(record, indent=2)
        elif text is not None:
            tell(*text.split("\n"))
        else:
            self._block(record)

    def records(self, name: str, records: Sequence[Record]) -> None:
        """A list, in JSON as the one member ``name``."""
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
        """One of several answers over time: a line each, in JSON too."""
        if self.as_json:
            tell_json(record)
        else:
            tell(text)

    def notice(self, text: str) -> None:
        """What is to be known beside an answer that was given all the same; on standard error."""
        self._beside({"notice": text}, text)

    def error(self, kind: str, message: str, exit_code: int, problems: Sequence[str] = ()) -> None:
        """Why there is no answer, as one line of JSON or as a sentence for each problem; on standard error. Further
        lines of a sentence are indented, so that none looks like another error.
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
                console.print(Text.assemble((f"{name.replace('_', ' '):<{_WIDTH}}", "dim"), printable(_words(value))))


def _words(value: object) -> str:
    if value is True:
        return "yes"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
