"""Reads and writes on file descriptors that belong to others too: their flags stay as they are, nothing blocks."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Callable

__all__ = ["chunks", "write_all"]

_CHUNK = 1 << 16


async def chunks(descriptor: int) -> AsyncIterator[bytes]:
    """What comes, until the end. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        await _ready(loop.add_reader, loop.remove_reader, descriptor)
        data = os.read(descriptor, _CHUNK)
        if not data:
            return
        yield data


async def write_all(descriptor: int, data: bytes) -> None:
    """Return when all is written. Raises OSError where nobody reads any more."""
    loop = asyncio.get_running_loop()
    rest = memoryview(data)
    while rest:
        await _ready(loop.add_writer, loop.remove_writer, descriptor)
        # A pipe that is ready takes this much without blocking, and may block on a byte more.
        rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]


async def _ready(add: Callable[..., object], remove: Callable[[int], object], descriptor: int) -> None:
    ready = asyncio.Event()
    try:
        add(descriptor, ready.set)
    except PermissionError:
        return  # a regular file, which is always ready and which no selector takes
    try:
        await ready.wait()
    finally:
        remove(descriptor)
