"""The apps behind the sidecars: they echo, and record their callers.

A caller opens with a line. Only a line that a friendly client has announced may arrive, and only once. Any other line
is a wrong admission: it is recorded here even if the stranger itself reads no response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tests.soak.violations import Violations

__all__ = ["App", "serving"]

_CHUNK = 1 << 16


class App:
    """``served`` counts announced callers, ``silent`` connections that ended without a line."""

    def __init__(self, name: str, violations: Violations) -> None:
        self.name = name
        self.served = 0
        self.silent = 0
        self.strangers = 0
        self._announced: set[bytes] = set()
        self._violations = violations

    def announce(self, line: bytes) -> None:
        """A friendly client is about to open with this line."""
        self._announced.add(line)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await self._echo(reader, writer)
        finally:
            writer.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readuntil()
        except asyncio.IncompleteReadError as cut:
            line = cut.partial
        except asyncio.LimitOverrunError:
            line = await reader.read(_CHUNK)
        if not line:
            self.silent += 1
            return
        if line in self._announced:
            self._announced.remove(line)
            self.served += 1
        else:
            self.strangers += 1
            self._violations.add("wrong admission", f"the app {self.name} got {line[:80]!r} of a stranger")
        # A stranger gets a response too, so that it notices its admission.
        writer.write(line)
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        await writer.drain()


@asynccontextmanager
async def serving(apps: Sequence[tuple[App, int]]) -> AsyncIterator[None]:
    """Each on its loopback port."""
    async with AsyncExitStack() as stack:
        for app, port in apps:
            server = await asyncio.start_server(app.handle, "127.0.0.1", port, backlog=1024)
            stack.callback(server.close)
        yield
