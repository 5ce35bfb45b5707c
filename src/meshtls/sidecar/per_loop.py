"""One thing for each event loop, found quickly: asking which loop runs is cheap, a weak dictionary is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(threading.local, Generic[T]):
    """Call it for the running loop's. A thread keeps the one of the loop that runs in it, or ran last."""

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._loop: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None
        self._kept: T

    def __call__(self) -> T:
        loop = asyncio.get_running_loop()
        if self._loop() is not loop:
            self._kept, self._loop = self._make(loop), ref(loop)
        return self._kept
