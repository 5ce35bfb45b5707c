"""What a verb says on standard output: for people, plain where that is no terminal, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import click
from rich.console import Console
from rich.text import Text

__all__ = ["Output", "Record", "wants_json"]

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


class Output:
    """A record is one JSON object. For people it is a line for each field that says something."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def record(self, record: Record, text: str | None = None) -> None:
        """One answer; ``text`` is what people are told instead of the fields."""
        if self.as_json:
            click.echo(json.dumps(record, indent=2))
        elif text is not None:
            click.echo(text)
        else:
            self._block(record)

    def records(self, name: str, records: Sequence[Record]) -> None:
        """A list, in JSON as the one member ``name``."""
        if self.as_json:
            click.echo(json.dumps({name: records}, indent=2))
            return
        for place, record in enumerate(records):
            if place:
                click.echo()
            self._block(record)
        if not records:
            click.echo(f"no {name}")

    def event(self, record: Record, text: str) -> None:
        """One of several answers over time: a line each, in JSON too."""
        click.echo(json.dumps(record) if self.as_json else text)

    def notice(self, text: str) -> None:
        """What is to be known beside an answer that was given all the same; on standard error."""
        click.echo(json.dumps({"notice": text}) if self.as_json else f"meshtls: {text}", err=True)

    def error(self, kind: str, message: str, exit_code: int) -> None:
        """Why there is no answer, as one line of JSON or as a sentence; on standard error."""
        told = {"error": {"kind": kind, "message": message, "exit_code": exit_code}}
        click.echo(json.dumps(told) if self.as_json else f"meshtls: {message}", err=True)

    def _block(self, record: Record) -> None:
        console = Console(highlight=False, soft_wrap=True)
        for name, value in record.items():
            if value:
                console.print(Text.assemble((f"{name.replace('_', ' '):<{_WIDTH}}", "dim"), _words(value)))


def _words(value: object) -> str:
    if value is True:
        return "yes"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
