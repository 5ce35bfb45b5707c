"""``meshtls app``: the demo's app, as a process of its own."""

from __future__ import annotations

import asyncio

import click

from meshtls.cli.demo_app import DemoApp, serve_app
from meshtls.cli.http import HttpError, get
from meshtls.cli.options import ADDRESS
from meshtls.cli.signals import stop_signal
from meshtls.sidecar.address import Address

__all__ = ["app"]


@click.command()
@click.option("--listen", type=ADDRESS, metavar="HOST:PORT", help="Where to serve.")
@click.option("--name", help="What the app calls itself.")
@click.option("--call", type=ADDRESS, metavar="HOST:PORT", help="Whom GET /call calls: the app's own sidecar.")
@click.option("--healthcheck", type=ADDRESS, metavar="HOST:PORT", help="Ask an app that runs there, and exit.")
def app(
    listen: Address | None,
    name: str | None,
    call: Address | None,
    healthcheck: Address | None,
) -> None:
    """A small HTTP app to put behind a sidecar: GET / says its name, GET /call calls the other app."""
    if healthcheck:
        asyncio.run(_check(healthcheck))
        return
    if listen is None or name is None:
        raise click.UsageError("wanted --listen and --name, or --healthcheck")
    asyncio.run(_serve(DemoApp(name, call), listen))


async def _serve(served: DemoApp, listen: Address) -> None:
    with stop_signal() as stopped:
        async with serve_app(served, listen) as address:
            click.echo(f"app {served.name} listens on {address}")
            await stopped.wait()


async def _check(address: Address) -> None:
    try:
        answer = await get(address, "/", 3.0)
    except HttpError as error:
        raise click.ClickException(f"not healthy: {error}") from error
    if answer.status != 200:
        raise click.ClickException(f"not healthy: {address} answered {answer.status}")
