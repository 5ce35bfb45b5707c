"""Waiting for what nothing tells of, and how long that may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["SECONDS", "until"]

SECONDS = 10.0


async def until(true: Callable[[], bool]) -> None:
    """Wait for what nothing tells of: it is looked at after every round of the loop."""
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0)
