"""``meshtls explain connection``: one connection, as its two sidecars recorded it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from meshtls.admin.asking import Interfaces, ask_all
from meshtls.admin.story import stories
from meshtls.cli.admin.client import admin_options
from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.cli.policy.logs import log_lines
from meshtls.errors import NotFoundError
from meshtls.json_text import read_json

__all__ = ["connection"]


@click.command()
@click.argument("connection_id", metavar="ID")
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An access log of a sidecar that can't be asked, or that has forgotten it, also compressed by gzip; - is"
    " standard input.",
)
@admin_options
@output_option
def connection(connection_id: str, logs: tuple[Path, ...], interfaces: Interfaces, out: Output) -> None:
    """Explain a connection or a refusal by its ID, which is in the access logs and log lines of both its sidecars.

    Ask both: `meshtls explain connection 3f9c1a2b4d5e6f70 --socket a.sock --socket b.sock`. A sidecar remembers some
    hundred ended connections; for older ones give its access log.
    """
    answers = asyncio.run(ask_all(interfaces, "/connections", {"id": connection_id}))
    lines = [
        line for one in answers for line in (*one.get("live", ()), *one.get("ended", ()), *one.get("requests", ()))
    ]
    for file in logs:
        lines += _of_log(file, connection_id)
    found = stories(connection_id, lines)
    if not found:
        asked = ", ".join([*(one.name for one in interfaces), *map(str, logs)])
        raise NotFoundError(
            f"connection {connection_id}: no record of it in {asked}; give the access logs of its sidecars with --log"
        )
    told = "\n\n".join("\n".join(story.lines()) for story in found)
    out.record({"connections": [story.record() for story in found]}, told)


def _of_log(file: Path, wanted: str) -> Iterator[dict[str, Any]]:
    for line in log_lines(file):
        if wanted.encode() not in line:
            continue
        try:
            found = read_json(line)
        except ValueError:
            continue  # the end of a log that is being written
        if isinstance(found, dict):
            yield found
