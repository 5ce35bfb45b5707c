"""The clock of the running loop, which a test puts forward: what ends after minutes ends at once, however slow the
machine is.
"""

from __future__ import annotations

import asyncio

__all__ = ["LoopClock"]


class LoopClock:
    """Replaces the clock of the running loop, before anything that keeps ``loop.time`` is made on it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._ahead = 0.0
        loop.time = self  # type: ignore[method-assign]

    def __call__(self) -> float:
        return self._time() + self._ahead

    def put_forward(self, seconds: float) -> None:
        """Timers that are due then run when the test next awaits."""
        self._ahead += seconds
