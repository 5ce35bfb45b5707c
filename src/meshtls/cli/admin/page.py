"""``meshtls admin``: one page of the admin interface of a running sidecar, agent or server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import click

from meshtls.admin.asking import Interfaces, ask_all, ask_text
from meshtls.admin.in_short import MOST, connections_in_short
from meshtls.admin.pages import Record
from meshtls.admin.words import in_words
from meshtls.cli.admin.client import admin_options
from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.printable import printable

__all__ = ["admin"]

#: More than any list has.
_ALL = sys.maxsize
#: The one page that is text and no record.
_METRICS = "stats/prometheus"
_PAGES = (
    "certs",
    "config_dump",
    "stats",
    _METRICS,
    "connections",
    "routes",
    "policies",
    "graph",
    "handshakes",
    "ready",
    "drain",
    "logging",
    "server_info",
    "help",
)


class _Page(click.Choice[str]):
    """A page by its name, also as `help` lists it: with a slash in front."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = value.removeprefix("/")
        if name == "tap":
            self.fail("`meshtls tap` follows it", param, ctx)
        return super().convert(name, param, ctx)


@click.command()
@click.argument("page", type=_Page(_PAGES), default="help", metavar="[PAGE]")
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...")
@admin_options
@output_option
def admin(page: str, words: tuple[str, ...], interfaces: Interfaces, out: Output) -> int:
    """Show a page of a running sidecar, agent or server; `meshtls admin help` lists them with their words.

    `connections` shows the newest 20, and limit=NUMBER more; id=ID shows all that is known of one.

    Two of them change something: `meshtls admin drain`, and `meshtls admin logging level=DEBUG`, to which
    logger=meshtls.tls confines it. Exit code 1: the process refuses, or `ready` says that it is not.
    """
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or name in given:
            raise click.UsageError(f"wanted NAME=VALUE, each name once, got {word!r}")
        given[name] = value
    if page == _METRICS:
        _print_metrics(interfaces, given, out)
        return 0
    changes = page == "drain" or (page == "logging" and bool(given))
    records = asyncio.run(ask_all(interfaces, f"/{page}", given, "POST" if changes else "GET"))

    def text(record: Record) -> str:
        if page != "connections":
            return in_words(record)
        if "id" in given:  # few, and all of them is wanted: a table would be wider than a screen
            return in_words(record, tables=False)
        return in_words(connections_in_short(record, _ALL if "limit" in given else MOST))

    if len(records) == 1:
        out.record(records[0], text(records[0]))
    else:
        named = [{"asked": at.name, **record} for at, record in zip(interfaces, records, strict=True)]
        out.record({"processes": named}, "\n\n".join(map(text, named)))
    return 1 if page == "ready" and not all(record.get("ready") for record in records) else 0


def _print_metrics(interfaces: Interfaces, given: Mapping[str, str], out: Output) -> None:
    """As the process answers them; of several, each after a comment with its name."""
    if given:
        raise click.UsageError(f"wanted no NAME=VALUE after {_METRICS}, got {next(iter(given))!r}")

    async def texts() -> list[str]:
        return [await ask_text(one, f"/{_METRICS}") for one in interfaces]

    found = [text.rstrip("\n") for text in asyncio.run(texts())]
    if len(found) == 1:
        out.record({"text": found[0]}, found[0])
        return
    named = [(at.name, text) for at, text in zip(interfaces, found, strict=True)]
    record = {"processes": [{"asked": name, "text": text} for name, text in named]}
    out.record(record, "\n\n".join(f"# asked: {printable(name)}\n{text}" for name, text in named))
