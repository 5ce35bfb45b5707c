"""Hypercorn in this event loop, until the block ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

__all__ = ["hypercorn_serving"]


@asynccontextmanager
async def hypercorn_serving(app: Any, listening: socket.socket, **settings: object) -> AsyncIterator[None]:
    """Serve the app on this socket, which is taken over. ``settings``: more of hypercorn's configuration."""
    config, stop = Config(), asyncio.Event()
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog, config.graceful_timeout = None, 0.1
    for name, value in settings.items():
        setattr(config, name, value)

    async def stopped() -> None:
        await stop.wait()

    task = asyncio.create_task(serve(app, config, shutdown_trigger=stopped))
    try:
        yield
    finally:
        stop.set()
        await task
