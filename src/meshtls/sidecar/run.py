"""What ends a running sidecar: the first SIGTERM or SIGINT drains it, a second ends the remaining connections."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

from meshtls.sidecar.service import Sidecar

__all__ = ["run_until_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_until_signal(
    sidecar: Sidecar,
    parent: int | None = None,
    ready: Callable[[], None] | None = None,
    stopping: Callable[[signal.Signals], None] | None = None,
) -> None:
    """Wait for a signal, then drain the entered sidecar within its configured deadline. Main thread only.

    ``parent`` is a file descriptor whose end counts as a signal: a worker's parent has exited. ``ready`` is called when
    the signal handlers are installed, ``stopping`` at the first signal.
    """
    # The sidecar's own objects live until it ends: keep the garbage collector from scanning them again and again.
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopped.is_set():
            sidecar.abort("the sidecar was told twice to stop")
        elif stopping is not None:
            stopping(number)
        stopped.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    if parent is not None:
        loop.add_reader(parent, stopped.set)
    try:
        if ready is not None:
            ready()
        await stopped.wait()
        if parent is not None:
            loop.remove_reader(parent)
        await sidecar.drain()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        gc.unfreeze()
