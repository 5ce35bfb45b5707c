"""The demo's app, and ``meshtls app``, which runs it as a process of its own. It uses no TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import click

from meshtls.address import Address
from meshtls.cli.http import HttpError, get, read_request, response
from meshtls.cli.options import ADDRESS, output_option
from meshtls.cli.output import Output
from meshtls.cli.probing import PROBE_SECONDS
from meshtls.cli.serving import stop_signal, tell_health
from meshtls.errors import ConfigError
from meshtls.observe.readiness import Readiness
from meshtls.port_holder import bind_reason

__all__ = ["DemoApp", "app", "serve_app"]


@click.command()
@click.option("--listen", type=ADDRESS, metavar="HOST:PORT", help="The address to listen on.")
@click.option("--name", help="The name of the app, which it answers with.")
@click.option(
    "--call", type=ADDRESS, metavar="HOST:PORT", help="The address that GET /call calls: the app's own sidecar."
)
@click.option(
    "--healthcheck", type=ADDRESS, metavar="HOST:PORT", help="Check the app that runs at this address, and exit."
)
@output_option
def app(
    out: Output,
    listen: Address | None,
    name: str | None,
    call: Address | None,
    healthcheck: Address | None,
) -> int:
    """A small HTTP app to put behind a sidecar: GET / answers with its name, GET /call calls the other app."""
    if healthcheck:
        return tell_health(out, asyncio.run(_readiness(healthcheck)))
    if listen is None or name is None:
        raise click.UsageError("wanted --listen and --name, or --healthcheck")

    async def serve(served: DemoApp) -> None:
        with stop_signal() as stopped:
            async with serve_app(served, listen) as address:
                record = {"event": "serving", "name": served.name, "address": str(address)}
                out.event(record, f"app {served.name} listens on {address}")
                await stopped.wait()

    asyncio.run(serve(DemoApp(name, call)))
    return 0


async def _readiness(address: Address) -> Readiness:
    try:
        answer = await get(address, "/", PROBE_SECONDS)
    except HttpError as error:
        return Readiness(False, str(error))
    return Readiness(True) if answer.status == 200 else Readiness(False, f"{address} answered {answer.status}")


_SECONDS = 10.0
_Answer = tuple[int, str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DemoApp:
    """The app of the demo, an HTTP server. ``GET /call`` calls the address ``call``. Every other GET is answered with
    the name and the path.
    """

    name: str
    call: Address | None = None

    async def answer(self, method: str, path: str) -> _Answer:
        if method != "GET":
            return 405, "Method Not Allowed", {"app": self.name, "error": f"wanted GET, got {method}"}
        if path != "/call":
            return 200, "OK", {"app": self.name, "path": path}
        if self.call is None:
            return 404, "Not Found", {"app": self.name, "error": "this app was started without --call"}
        try:
            called = json.loads((await get(self.call, "/", _SECONDS)).body)
        except (HttpError, ValueError) as error:
            return 502, "Bad Gateway", {"app": self.name, "error": f"the call failed: {error}"}
        return 200, "OK", {"app": self.name, "called": called}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            async with asyncio.timeout(2 * _SECONDS):
                status, reason, body = await self.answer(*await read_request(reader))
                writer.write(response(status, reason, json.dumps(body).encode() + b"\n"))
                await writer.drain()
        except (HttpError, OSError):
            pass  # a port scan, or a client that disconnected: there is nobody to answer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serve_app(app: DemoApp, listen: Address) -> AsyncIterator[Address]:
    """Serve while the body runs. Gives the bound address; raises ConfigError if it can't be bound."""
    try:
        server = await asyncio.start_server(app.handle, listen.host, listen.port)
    except OSError as error:
        why = bind_reason(error, listen.host, listen.port)
        raise ConfigError(f"app {app.name}: wanted to listen on {listen}: {why}") from error
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])
