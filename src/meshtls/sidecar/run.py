"""SIGTERM and SIGINT for a running sidecar: the first drains it, another breaks off what is left."""

from __future__ import annotations

import asyncio
import signal

from meshtls.sidecar.service import Sidecar

__all__ = ["run_until_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_until_signal(sidecar: Sidecar) -> None:
    """Wait for a signal, then drain the entered sidecar within its configured deadline. Main thread only."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            sidecar.abort("the sidecar was told twice to stop")
        stopping.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        await stopping.wait()
        await sidecar.drain()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
