"""Async sources for programs without an event loop: the source runs in a background thread.

with blocking(X509Source()) as source:
    context = client_context(source, authorize_id("spiffe://example.org/db"))

or, for the rest of the process:

source = blocking(X509Source()).enter()

The thread is a daemon, so it never keeps the process alive; at exit the resource is left in an orderly way. A fork
copies the value but not the thread, so in a forked child (gunicorn --preload, Celery, multiprocessing) the resource is
entered again, in a new thread. Contexts over the source keep working there.
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
#: Seconds that a forked child waits for its resource before it continues without; the thread keeps trying.
_FORK_WAIT = 5.0
#: Seconds between two attempts of a forked child.
_RETRY = 1.0
#: Seconds that the process waits at exit for all resources to be left.
_EXIT_WAIT = 2.0


def blocking(resource: AbstractAsyncContextManager[T], *, after_fork: bool = True) -> Blocking[T]:
    """Run ``resource`` in an event loop in its own thread, from ``with`` or ``enter`` on.

    Call only what needs no event loop on the value: a source's ``snapshot``, and so a context over the source.
    ``after_fork``: enter the resource again in a forked child; it must support that, as the sources do.
    """
    return Blocking(resource, after_fork=after_fork)


class Blocking(Generic[T]):
    """A context manager whose value is what entering ``resource`` returns.

    Raises what entering or leaving raises, and at the end of the body an error that ended the resource meanwhile.
    """

    def __init__(self, resource: AbstractAsyncContextManager[T], *, after_fork: bool) -> None:
        self._resource = resource
        self._after_fork = after_fork
        self._run: _Run[T] | None = None

    def enter(self) -> T:
        """Enter until ``close``, or for the rest of the process."""
        self._run = _Run(self._resource)
        _running.add(self)
        try:
            return self._run.value()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the resource. Raises what leaving raises, or the error that ended it before."""
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
        """Enter again in a forked child. The parent's loop, sockets and epoll are shared, so they are left alone."""
        run = self._run
        if run is None:
            return
        # Keep also what the resource and its parts hold, which entering it again replaces.
        held = _attributes(self._resource)
        _of_the_parent.append((run, held, [_attributes(part) for part in held]))
        if not self._after_fork:
            self._run = None
            _running.discard(self)
            return
        self._run = _Run(self._resource, insistent=True)
        self._run.wait(_FORK_WAIT)


class _Run(Generic[T]):
    """One thread with its loop, from entering the resource to exiting it."""

    def __init__(self, resource: AbstractAsyncContextManager[T], *, insistent: bool = False) -> None:
        self._resource = resource
        self._insistent = insistent
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._entered: Future[T] = Future()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="meshtls", daemon=True)
        self._thread.start()

    def value(self) -> T:
        """The value, once the resource is entered. Raises what entering raises."""
        return self._entered.result()

    def wait(self, seconds: float) -> None:
        """Wait until the resource is entered, at most this long."""
        try:
            self._entered.exception(seconds)
        except TimeoutError:
            log.warning("in a forked child: %r is not ready after %g s; still trying", self._resource, seconds)

    def stop(self) -> None:
        """Request the end; a thread that has ended already ignores it."""
        loop, task = self._started.result()
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # the loop is closed
            return

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end. Raises the error that caused it, if any."""
        self._thread.join(seconds)
        if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
            raise self._error

    def _work(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:  # noqa: BLE001  # raised to the caller of enter or close
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
                # In a forked child no caller waits for the error, and the failure may be temporary: retry.
                if not self._insistent:
                    raise
                log.warning("in a forked child: %s; next try in %g s", error, _RETRY)
                await asyncio.sleep(_RETRY)


def _parts(resource: object) -> list[object]:
    """The objects that the resource and its parts hold now."""
    parts = [part for one in (resource, *_held_by(resource)) for part in _held_by(one)]
    return [*parts, *_held_by(resource)]


def _held_by(one: object) -> list[object]:
    return list(getattr(one, "__dict__", {}).values())


_running: set[Blocking[Any]] = set()
#: Objects that a fork copied and that must not be collected: a channel would send GOAWAY on the parent's connection.
_of_the_parent: list[object] = []


def _restart_all() -> None:
    for one in tuple(_running):
        one._restart()


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
