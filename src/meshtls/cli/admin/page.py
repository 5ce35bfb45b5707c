"""``meshtls admin``: one page of the admin interface of a running sidecar, agent or server."""

from __future__ import annotations

import asyncio

import click

from meshtls.admin.asking import Interfaces, ask_all
from meshtls.admin.words import in_words
from meshtls.cli.admin.client import admin_options
from meshtls.cli.options import output_option
from meshtls.cli.output import Output

__all__ = ["admin"]

_PAGES = (
    "certs",
    "config_dump",
    "stats",
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
        if name == "stats/prometheus":
            name = "stats"
        return super().convert(name, param, ctx)


@click.command()
@click.argument("page", type=_Page(_PAGES), default="help", metavar="[PAGE]")
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...")
@admin_options
@output_option
def admin(page: str, words: tuple[str, ...], interfaces: Interfaces, out: Output) -> int:
    """Show a page of a running sidecar, agent or server; `meshtls admin help` lists them with their words.

    Two of them change something: `meshtls admin drain`, and `meshtls admin logging level=DEBUG`, to which
    logger=meshtls.tls confines it. Exit code 1: the process refuses, or `ready` says that it is not.
    """
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or name in given:
            raise click.UsageError(f"wanted NAME=VALUE, each name once, got {word!r}")
        given[name] = value
    changes = page == "drain" or (page == "logging" and bool(given))
    records = asyncio.run(ask_all(interfaces, f"/{page}", given, "POST" if changes else "GET"))
    if len(records) == 1:
        out.record(records[0], in_words(records[0]))
    else:
        named = [{"asked": at.name, **record} for at, record in zip(interfaces, records, strict=True)]
        out.record({"processes": named}, "\n\n".join(map(in_words, named)))
    return 1 if page == "ready" and not all(record.get("ready") for record in records) else 0
