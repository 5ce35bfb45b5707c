"""Work that takes long, such as compiling policies, in a thread: the event loop goes on serving meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

__all__ = ["off_loop"]

_T = TypeVar("_T")


async def off_loop(work: Callable[[], _T], name: str) -> _T:
    """What ``work`` returns or raises. ``name`` is the thread's.

    Where the caller is cancelled, the result is dropped when it comes. Nothing waits for the thread, the end of the
    process neither: an executor's threads would be joined then.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only where that is what it returned

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(partial(settle, result, failure))

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
