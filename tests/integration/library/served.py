"""Servers of the examples, ended only when they have dealt with every connection that came before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from meshtls.tls.rotating import RotatingContext

__all__ = ["Serving", "served"]

Serving = Callable[[RotatingContext, str, int], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def served(serving: Serving, context: RotatingContext) -> AsyncIterator[str]:
    """Gives the address. What a peer did before the body ended, the server has seen when this ends."""
    async with serving(context, "127.0.0.1", 0) as port:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await _knock(port)


async def _knock(port: int) -> None:
    # Later than all that was sent before it, and answered (by a close) only when its turn has come.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write_eof()
    await reader.read()
    writer.close()
    await writer.wait_closed()
