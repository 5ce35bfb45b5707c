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
    """Run ``work`` while the body runs and cancel it at the end.

    If ``work`` fails first, the body is cancelled and the failure is raised in a group; the body's own exceptions are
    raised unchanged.
    """
    tasks = asyncio.TaskGroup()
    await tasks.__aenter__()
    running = tasks.create_task(work, name=name)
    try:
        yield
    finally:
        try:
            # Again until it ends: a library may treat a cancellation as a lost connection (grpclib's streams).
            while not running.done():
                running.cancel()
                await asyncio.wait([running], timeout=_CLEAN_UP)
        finally:
            # The TaskGroup must not see the body's exception: it would wrap it in a group.
            await tasks.__aexit__(None, None, None)
