"""``/live`` and ``/ready`` of an agent over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshtls.errors import ConfigError
from meshtls.observe.health import END_OF_REQUEST, LONGEST_REQUEST, answer_probe
from meshtls.observe.readiness import Readiness

__all__ = ["serve_health"]

_SECONDS = 5.0


@asynccontextmanager
async def serve_health(host: str, port: int, readiness: Callable[[], Readiness]) -> AsyncIterator[int]:
    """Answer probes while the body runs; gives the port, a free one where 0 was asked for. Raises ConfigError."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_SECONDS):
                    writer.write(answer_probe(await reader.readuntil(END_OF_REQUEST), readiness))
                    await writer.drain()
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=LONGEST_REQUEST)
    except OSError as error:
        raise ConfigError(f"health {host}:{port}: could not listen there: {error.strerror or error}") from error
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
