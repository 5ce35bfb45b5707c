"""Async sources for programs without an event loop: one runs in a thread, for as long as it is needed.

with blocking(X509Source()) as source:
    context = client_context(source, authorize_id("spiffe://example.org/db"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from typing import TypeVar

__all__ = ["blocking"]

T = TypeVar("T")
Stop = Callable[[], object]


@contextmanager
def blocking(resource: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter ``resource`` in an event loop of its own thread, and leave it there when the body ends.

    Of the value only what needs no event loop may be called: a source's ``snapshot``, so also a context over it. What
    entering or leaving raises is raised here, and so is what ended the resource meanwhile.
    """
    started: Future[Stop] = Future()
    entered: Future[T] = Future()
    with ThreadPoolExecutor(1, thread_name_prefix="meshtls") as executor:
        ended = executor.submit(asyncio.run, _hold(resource, started, entered))
        ended.add_done_callback(partial(_pass_on, entered))
        try:
            yield entered.result()
        finally:
            with suppress(RuntimeError):  # the loop is closed: it has ended by itself
                started.result()()
            _raise_error_of(ended)


async def _hold(resource: AbstractAsyncContextManager[T], started: Future[Stop], entered: Future[T]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in a task
    started.set_result(partial(loop.call_soon_threadsafe, task.cancel))
    async with resource as value:
        entered.set_result(value)
        await loop.create_future()


def _pass_on(entered: Future[T], ended: Future[None]) -> None:
    if not entered.done():
        entered.set_exception(ended.exception())


def _raise_error_of(ended: Future[None]) -> None:
    error = ended.exception()
    if error is not None and not isinstance(error, asyncio.CancelledError):
        raise error
