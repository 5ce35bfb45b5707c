"""Async sources for programs without an event loop: one runs in a thread, for as long as it is needed.

with blocking(X509Source()) as source:
    context = client_context(source, authorize_id("spiffe://example.org/db"))

or, for the rest of the process:

source = blocking(X509Source()).enter()

The thread is a daemon: it never keeps a process from ending, and at its end the resource is left in good order. A fork
copies the value and not the thread, so in a forked child (gunicorn --preload, Celery, multiprocessing) the resource is
entered again, in a thread of the child's own. Contexts over the source go on working there.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from meshtls.errors import MeshtlsError
from meshtls.logs import logger

__all__ = ["Blocking", "blocking"]

T = TypeVar("T")

log = logger("meshtls.workload")
#: Seconds that a forked child waits for its resource before it goes on without; the thread goes on trying.
_FORK_WAIT = 5.0
#: Seconds between two tries of a forked child.
_RETRY = 1.0
#: Seconds that the end of the process waits for all resources to be left.
_EXIT_WAIT = 2.0


def blocking(resource: AbstractAsyncContextManager[T], *, after_fork: bool = True) -> Blocking[T]:
    """Run ``resource`` in an event loop of its own thread, from ``with`` or ``enter`` on.

    Of the value only what needs no event loop may be called: a source's ``snapshot``, so also a context over it.
    ``after_fork``: enter it again in a forked child; it has to be one that can be entered twice, as the sources can.
    """
    return Blocking(resource, after_fork=after_fork)


class Blocking(Generic[T]):
    """A context manager whose value is what entering ``resource`` gives.

    What entering or leaving raises is raised here, and at the end of the body so is what ended the resource meanwhile.
    """

    def __init__(self, resource: AbstractAsyncContextManager[T], *, after_fork: bool) -> None:
        self._resource = resource
        self._after_fork = after_fork
        self._run: _Run[T] | None = None

    def enter(self) -> T:
        """For the rest of the process, or until ``close``."""
        self._run = _Run(self._resource)
        _running.add(self)
        try:
            return self._run.value()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the resource. Raises what leaving raises, or what has ended it before."""
        _running.discard(self)
        run, self._run = self._run, None
        if run is not None:
            run.stop()
            run.join()

    def __enter__(self) -> T:
        return self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Blocking {self._resource!r} [{'running' if self._run else 'not running'}]>"

    def _again(self) -> None:
        """In a forked child. The parent's loop, its sockets and its epoll are left alone: they are shared with it."""
        run = self._run
        if run is None:
            return
        _of_the_parent.append((run, _parts(self._resource)))
        if not self._after_fork:
            self._run = None
            _running.discard(self)
            return
        self._run = _Run(self._resource, insistent=True)
        self._run.wait(_FORK_WAIT)


class _Run(Generic[T]):
    """One thread with its loop, from entering the resource to leaving it."""

    def __init__(self, resource: AbstractAsyncContextManager[T], *, insistent: bool = False) -> None:
        self._resource = resource
        self._insistent = insistent
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._entered: Future[T] = Future()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="meshtls", daemon=True)
        self._thread.start()

    def value(self) -> T:
        """Waits. Raises what entering raises."""
        return self._entered.result()

    def wait(self, seconds: float) -> None:
        """Until it was entered, and no longer than this."""
        try:
            self._entered.exception(seconds)
        except TimeoutError:
            log.warning("in a forked child: %r is not ready after %g s; trying on", self._resource, seconds)

    def stop(self) -> None:
        """Ask it to end; it may have ended."""
        loop, task = self._started.result()
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # the loop is closed
            return

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end. Raises what ended it, unless that was ``stop``."""
        self._thread.join(seconds)
        if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
            raise self._error

    def _work(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:  # noqa: BLE001  # it is raised to whoever enters or leaves
            self._error = error
            if not self._entered.done():
                self._entered.set_exception(error)

    async def _hold(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._started.set_result((asyncio.get_running_loop(), task))
        while True:
            try:
                async with self._resource as value:
                    if not self._entered.done():
                        self._entered.set_result(value)
                    await asyncio.get_running_loop().create_future()
            except MeshtlsError as error:
                # Nobody waits for the failure in a forked child: it may be better in a moment.
                if not self._insistent:
                    raise
                log.warning("in a forked child: %s; next try in %g s", error, _RETRY)
                await asyncio.sleep(_RETRY)


def _parts(resource: object) -> list[object]:
    """What the resource and its parts hold now."""
    parts = [part for one in (resource, *_held_by(resource)) for part in _held_by(one)]
    return [*parts, *_held_by(resource)]


def _held_by(one: object) -> list[object]:
    return list(getattr(one, "__dict__", {}).values())


_running: set[Blocking[Any]] = set()
#: What a fork copied and must not be collected: a channel, say, would then say goodbye on the parent's connection.
_of_the_parent: list[object] = []


def _restart_all() -> None:
    for one in tuple(_running):
        one._again()


def _stop_all() -> None:
    runs = [one._run for one in tuple(_running) if one._run is not None]
    for run in runs:
        run.stop()
    for run in runs:
        try:
            run.join(_EXIT_WAIT)
        except MeshtlsError as error:
            log.debug("at the end of the process: %s", error)


os.register_at_fork(after_in_child=_restart_all)
atexit.register(_stop_all)
