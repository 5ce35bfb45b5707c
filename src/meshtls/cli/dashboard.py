"""``meshtls dashboard``: the mesh in a browser, from the admin interfaces of its processes."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import click

from meshtls.address import Address
from meshtls.admin.asking import Interfaces
from meshtls.cli.admin.client import admin_options
from meshtls.cli.options import ADDRESS, DURATION, log_to_stderr, output_option
from meshtls.cli.output import Output
from meshtls.cli.serving import stop_signal
from meshtls.dashboard.collect import Collector
from meshtls.dashboard.serving import read_token, serving_dashboard

__all__ = ["dashboard"]

_FILE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--listen",
    type=ADDRESS,
    default="127.0.0.1:0",
    show_default=True,
    help="A loopback address to serve it on. Every user of the machine can read it there.",
)
@click.option(
    "--token-file",
    type=_FILE,
    help="A file (mode 0600) with a token: whoever gives it to the page may drain a process, or set its log level.",
)
@click.option(
    "--server-socket", type=_FILE, help="The server's admin socket, for authorities, federation and the log's head."
)
@click.option("--interval", type=DURATION, default="2s", show_default=True, help="Between two looks at a process.")
@admin_options
@output_option
def dashboard(
    listen: Address,
    token_file: Path | None,
    server_socket: Path | None,
    interval: timedelta,
    interfaces: Interfaces,
    out: Output,
) -> None:
    """Serve a dashboard of running sidecars, agents and servers, until Ctrl-C.

    Name the admin socket of each: `meshtls dashboard --socket a.sock --socket b.sock`. A process that does not answer
    is shown so. Without --token-file the dashboard changes nothing.
    """
    log_to_stderr(logging.WARNING)
    token = read_token(token_file) if token_file is not None else None

    async def serve() -> None:
        with stop_signal() as stopped:
            collector = Collector(interfaces, server=server_socket, interval=interval.total_seconds())
            async with serving_dashboard(collector, listen, token) as bound:
                url = f"http://{bound}/"
                out.event({"event": "serving", "url": url}, f"dashboard: {url}")
                await stopped.wait()

    asyncio.run(serve())
