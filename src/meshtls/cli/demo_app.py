"""The app behind a sidecar in the demo: it says its name, and calls another app when asked to. It knows no TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from meshtls.cli.http import HttpError, get, read_request, response
from meshtls.errors import ConfigError
from meshtls.sidecar.address import Address

__all__ = ["DemoApp", "serve_app"]

_SECONDS = 10.0
_Answer = tuple[int, str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DemoApp:
    """``GET /call`` calls ``call``; every other GET answers by itself."""

    name: str
    call: Address | None = None

    async def answer(self, method: str, path: str) -> _Answer:
        if method != "GET":
            return 405, "Method Not Allowed", {"app": self.name, "error": f"wanted GET, got {method}"}
        if path != "/call":
            return 200, "OK", {"app": self.name, "path": path}
        if self.call is None:
            return 404, "Not Found", {"app": self.name, "error": "this app was given nobody to call"}
        return await self._called(self.call)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            async with asyncio.timeout(2 * _SECONDS):
                status, reason, body = await self.answer(*await read_request(reader))
                writer.write(response(status, reason, json.dumps(body).encode() + b"\n"))
                await writer.drain()
        except (HttpError, OSError):
            pass  # a port scan, or a client that left: nobody is there to hear of it
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _called(self, address: Address) -> _Answer:
        try:
            answer = await get(address, "/", _SECONDS)
            called = json.loads(answer.body)
        except (HttpError, ValueError) as error:
            return 502, "Bad Gateway", {"app": self.name, "error": f"the call failed: {error}"}
        return 200, "OK", {"app": self.name, "called": called}


@asynccontextmanager
async def serve_app(app: DemoApp, listen: Address) -> AsyncIterator[Address]:
    """Serve while the body runs; gives the bound address. Raises ConfigError where it can't be bound."""
    try:
        server = await asyncio.start_server(app.handle, listen.host, listen.port)
    except OSError as error:
        raise ConfigError(f"app {app.name}: wanted to listen on {listen}: {error.strerror or error}") from error
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])
