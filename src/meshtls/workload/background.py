"""Work that runs beside a body and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

__all__ = ["in_background"]

#: Seconds for what is cancelled to clean up.
_PATIENCE = 3.0


@asynccontextmanager
async def in_background(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run ``work`` while the body runs and cancel it at the end. If it dies first the body is cancelled and its
    exception comes out, in a group; the body's own exceptions come out as they are.
    """
    tasks = asyncio.TaskGroup()
    await tasks.__aenter__()
    running = tasks.create_task(work, name=name)
    try:
        yield
    finally:
        try:
            await _ended(running)
        finally:
            # Not given the body's exception, which it would wrap in a group.
            await tasks.__aexit__(None, None, None)


async def _ended(running: asyncio.Task[None]) -> None:
    """Cancel it until it has ended: a library may take that for a lost connection, and go on (grpclib's streams do)."""
    while not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=_PATIENCE)
