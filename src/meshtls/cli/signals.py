"""SIGTERM and SIGINT as an event, and as the end of a verb that goes on until one of them.

The process always ends. What it waits for at its end may never come: a name service that hangs holds the event loop's
thread for it, a full disk or a lost mount holds a database. So the first signal also starts a deadline, and a second
signal does not wait for that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

from meshtls.cli.output import tell
from meshtls.workload.background import in_background

__all__ = ["GRACE", "end_within", "run_until_stopped", "stop_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Seconds to end in after a signal, below the 10 that Docker waits for.
GRACE = 8.0


@contextmanager
def stop_signal(grace: float = GRACE) -> Iterator[asyncio.Event]:
    """The event that the first of the two signals sets, while the body runs; the process then has ``grace`` seconds to
    end. Another signal ends it at once. Main thread only.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopped.is_set():
            os._exit(128 + number)
        stopped.set()
        end_within(grace, number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
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


def end_within(seconds: float, number: signal.Signals) -> None:
    """End the process after so many seconds, if it still runs then, as one that this signal ended."""

    def end() -> None:
        tell(f"meshtls: not stopped within {seconds:g} s of {number.name}: ended", err=True)
        os._exit(128 + number)

    deadline = threading.Timer(seconds, end)
    # Not waited for by Python at its exit.
    deadline.daemon = True
    deadline.start()
