"""Polling for conditions without an event, and its time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["SECONDS", "SHORT_IDLE", "until"]

#: A bound in seconds for what is waited for: on a busy machine all takes long.
SECONDS = 60.0
#: An idle timeout in seconds, short enough to wait for, and longer than a busy machine's pauses between bytes.
SHORT_IDLE = 2


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition without an event, which is checked after every iteration of the loop."""
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0)
