"""Servers of the examples, stopped only after they have handled every earlier connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from meshtls.tls.rotating import RotatingContext

__all__ = ["Serving", "served"]

Serving = Callable[[RotatingContext, str, int], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def served(serving: Serving, context: RotatingContext) -> AsyncIterator[str]:
    """Yields the address. When this ends, the server has handled everything that peers did in the body."""
    async with serving(context, "127.0.0.1", 0) as port:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await _knock(port)


async def _knock(port: int) -> None:
    # It arrives after everything sent earlier, and is answered (by a close) only in its turn.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write_eof()
    await reader.read()
    writer.close()
    await writer.wait_closed()
