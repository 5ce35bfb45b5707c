"""An event loop whose time a test owns, for code that uses the loop's clock instead of a Clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["OwnedLoop", "owned", "rounds", "run"]


class OwnedLoop(asyncio.SelectorEventLoop):
    """Its time stands still until a test advances ``now``, in seconds."""

    now = 0.0

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, None]) -> None:
    """As ``asyncio.run``, on an OwnedLoop."""
    with asyncio.Runner(loop_factory=OwnedLoop) as runner:
        runner.run(main)


def owned() -> OwnedLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, OwnedLoop), "wanted a coroutine that tests.support.owned_loop.run runs"
    return loop


async def rounds(count: int) -> None:
    """Let the loop run this many iterations."""
    for _ in range(count):
        await asyncio.sleep(0)
