"""SIGTERM and SIGINT as an event, and as the end of a verb that goes on until one of them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

from meshtls.workload.background import in_background

__all__ = ["run_until_stopped", "stop_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signal() -> Iterator[asyncio.Event]:
    """The event that the first of the two signals sets, while the body runs. Main thread only."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def run_until_stopped(work: Coroutine[None, None, None], name: str) -> None:
    """Do the work until the first of the two signals. Raises, in a group, what the work raises."""
    with stop_signal() as stopped:
        async with in_background(work, name):
            await stopped.wait()
