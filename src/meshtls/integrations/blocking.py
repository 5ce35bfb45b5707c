"""Runs an async source in a thread, for programs without an event loop.

with blocking(X509Source()) as source:
    context = client_context(source, authorize_id("spiffe://example.org/db"))

or, for the rest of the process:

source = blocking(X509Source()).enter()

The thread is a daemon: it does not keep the process from ending, and the resource is exited properly at the end. A fork
copies the value but not the thread, so in a forked child (gunicorn --preload, Celery, multiprocessing) the resource is
entered again in a new thread. TLS contexts over the source continue to work there.
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
#: Seconds that a forked child waits for its resource before it continues without; the thread continues to try.
_FORK_WAIT = 5.0
#: Seconds between two attempts of a forked child.
_RETRY = 1.0
#: Seconds to wait for each resource to exit at the end of the process.
_EXIT_WAIT = 2.0


def blocking(resource: AbstractAsyncContextManager[T], *, after_fork: bool = True) -> Blocking[T]:
    """Run ``resource`` in a thread with its own event loop, from ``with`` or ``enter`` on.

    Only use methods of the value that need no event loop, such as a source's ``snapshot``, and contexts over a source.

    ``after_fork``: enter the resource again in a forked child. It must support being entered twice, as sources do.
    """
    return Blocking(resource, after_fork=after_fork)


class Blocking(Generic[T]):
    """A context manager whose value is that of ``resource``.

    It raises what entering and exiting the resource raise, and at the end of the body an error that ended the resource.
    """

    def __init__(self, resource: AbstractAsyncContextManager[T], *, after_fork: bool) -> None:
        self._resource = resource
        self._after_fork = after_fork
        self._run: _Run[T] | None = None

    def enter(self) -> T:
        """Enter the resource for the rest of the process, or until ``close``."""
        self._run = _Run(self._resource)
        _running.add(self)
        try:
            return self._run.value()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Exit the resource. Raises what that raises, or the error that has ended the resource."""
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

    def _restart(self) -> None:
        """Restart in a forked child. The parent's loop, sockets and epoll are shared with it, and are not touched."""
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
        """Wait for the value. Raises what entering raises."""
        return self._entered.result()

    def wait(self, seconds: float) -> None:
        """Wait until the resource is entered, at most this long."""
        try:
            self._entered.exception(seconds)
        except TimeoutError:
            log.warning("in a forked child: %r is not ready after %g s; still trying", self._resource, seconds)

    def stop(self) -> None:
        """Request the end, without waiting for it. It may have ended already."""
        loop, task = self._started.result()
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # the loop is closed
            return

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end. Raises the error that ended it, unless that was ``stop``."""
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
                # In a forked child there is no caller to raise to, and the error may be temporary.
                if not self._insistent:
                    raise
                log.warning("in a forked child: %s; next try in %g s", error, _RETRY)
                await asyncio.sleep(_RETRY)


def _attributes(one: object) -> list[object]:
    return list(getattr(one, "__dict__", {}).values())


_running: set[Blocking[Any]] = set()
#: Objects copied by a fork that must not be garbage-collected: a channel would then send GOAWAY to the parent's peer.
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
