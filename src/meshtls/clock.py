"""Time. Code that depends on time or waits takes a Clock, so that tests can control it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

__all__ = ["Clock", "SystemClock", "first_of"]


class Clock(Protocol):
    """Wall-clock time for certificates, monotonic time for durations, and sleep."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of these returns, after cancelling the others. Raises what the first raises."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
