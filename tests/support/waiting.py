"""Waiting for what nothing tells of, and how long that may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["SECONDS", "SHORT_IDLE", "until"]

SECONDS = 30.0
#: Seconds of an idle timeout that a test waits for, and that a busy machine does not use up while bytes move.
SHORT_IDLE = 2


async def until(true: Callable[[], bool]) -> None:
    """Wait for what nothing tells of: it is looked at after every round of the loop."""
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0)
