"""Loops that run until the load is stopped."""

from __future__ import annotations

import asyncio
import random

__all__ = ["Load"]


class Load:
    """``stop`` ends every loop between two of its rounds. Each loop has its own random generator, from the seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.stopped = asyncio.Event()

    def stop(self) -> None:
        self.stopped.set()

    @property
    def going(self) -> bool:
        return not self.stopped.is_set()

    def chances(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")  # noqa: S311  # chances, not secrets

    async def pause(self, seconds: float) -> None:
        """Wait this long, or until the stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopped.wait()
        except TimeoutError:
            return
