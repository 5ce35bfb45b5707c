"""A task that runs beside a body and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

__all__ = ["in_background"]

#: Seconds for cancelled work to clean up.
_CLEAN_UP = 3.0


@asynccontextmanager
async def in_background(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run ``work`` while the body runs and cancel it at the end. If it fails first, the body is cancelled and the
    failure is raised in a group; the body's own exceptions are raised as they are.
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
    """Cancel until it has ended: a library may take a cancellation for a lost connection (grpclib's streams do)."""
    while not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=_CLEAN_UP)
