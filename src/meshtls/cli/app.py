"""``meshtls app``: the demo's app, as a process of its own."""

from __future__ import annotations

import asyncio

import click

from meshtls.cli.demo_app import DemoApp, serve_app
from meshtls.cli.health import readiness_at, tell_health
from meshtls.cli.options import ADDRESS, output_option
from meshtls.cli.output import Output
from meshtls.cli.signals import stop_signal
from meshtls.sidecar.address import Address

__all__ = ["app"]


@click.command()
@click.option("--listen", type=ADDRESS, metavar="HOST:PORT", help="Where to serve.")
@click.option("--name", help="What the app calls itself.")
@click.option("--call", type=ADDRESS, metavar="HOST:PORT", help="Whom GET /call calls: the app's own sidecar.")
@click.option("--healthcheck", type=ADDRESS, metavar="HOST:PORT", help="Ask an app that runs there, and exit.")
@output_option
def app(
    out: Output,
    listen: Address | None,
    name: str | None,
    call: Address | None,
    healthcheck: Address | None,
) -> int:
    """A small HTTP app to put behind a sidecar: GET / says its name, GET /call calls the other app."""
    if healthcheck:
        return tell_health(out, asyncio.run(readiness_at(healthcheck, "/")))
    if listen is None or name is None:
        raise click.UsageError("wanted --listen and --name, or --healthcheck")
    asyncio.run(_serve(DemoApp(name, call), listen, out))
    return 0


async def _serve(served: DemoApp, listen: Address, out: Output) -> None:
    with stop_signal() as stopped:
        async with serve_app(served, listen) as address:
            record = {"event": "serving", "name": served.name, "address": str(address)}
            out.event(record, f"app {served.name} listens on {address}")
            await stopped.wait()
