"""An event loop whose time is a number, and processes that end at any step as by ``kill -9``.

Nothing waits: when no callback is ready, time jumps to the next timer. Callbacks run in the order in which they became
ready, so a run with the same choices is the same run.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

__all__ = ["EPOCH", "MachineClock", "ProcessKilled", "SimLoop", "SimProcess", "current_process", "running_process"]

T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class ProcessKilled(BaseException):
    """Raised in the middle of a synchronous step of a process that was killed there."""


class SimProcess:
    """One life of a server, agent or workload. Once it is not ``alive``, no callback of it runs any more.

    ``kill_after``: the number of ``step`` calls until it is killed; None for never.
    """

    def __init__(self, loop: SimLoop, name: str, killed: Callable[[SimProcess], None]) -> None:
        self.name = name
        self.alive = True
        self.kill_after: int | None = None
        self.failure: BaseException | None = None
        self._loop = loop
        self._killed = killed
        # Also those that a kill has stopped, since asyncio complains of a pending task that nobody refers to.
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run this in the process. What it raises is the ``failure`` of the process, which ends by it."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, self)
        task = self._loop.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended, context=context)
        return task

    def step(self) -> None:
        """A place at which the process may be killed: before and after everything that is durable or leaves it."""
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                self.kill()
        if not self.alive:
            raise ProcessKilled

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            self._killed(self)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None and self.alive:
            self.failure = failure
            self.kill()

    def __repr__(self) -> str:
        return f"<SimProcess {self.name}{'' if self.alive else ', dead'}>"


_PROCESS: ContextVar[SimProcess | None] = ContextVar("process", default=None)


def running_process() -> SimProcess | None:
    """The process whose code runs; None outside of one."""
    return _PROCESS.get()


def current_process() -> SimProcess:
    """The process whose code runs. Raises RuntimeError outside of one."""
    found = running_process()
    if found is None:
        raise RuntimeError("this code runs in no process of the simulation")
    return found


class MachineClock:
    """A machine's clock: true time and an ``offset`` in seconds. Implements meshtls.clock.Clock."""

    def __init__(self, loop: SimLoop) -> None:
        self.offset = 0.0
        self._loop = loop

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() + self.offset)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimLoop(asyncio.AbstractEventLoop):
    """Runs until a time (``run_until``). ``steps`` counts the callbacks that it ran."""

    def __init__(self) -> None:
        self.steps = 0
        self.failures: list[str] = []
        self._now = 0.0
        self._ready: deque[tuple[asyncio.Handle, SimProcess | None]] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle, SimProcess | None]] = []
        self._timers_made = 0

    def run_until(self, end: float) -> None:
        """Run everything that is due up to this time."""
        asyncio._set_running_loop(self)
        try:
            while True:
                while self._ready:
                    handle, process = self._ready.popleft()
                    if (process is None or process.alive) and not handle.cancelled():
                        self.steps += 1
                        handle._run()
                if not self._timers or self._timers[0][0] > end:
                    break
                when, _, timer, process = heapq.heappop(self._timers)
                self._now = max(self._now, when)
                self._ready.append((timer, process))
            self._now = max(self._now, end)
        finally:
            asyncio._set_running_loop(None)

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((handle, _process_of(context)))
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(delay, 0.0), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer, _process_of(context)))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None, **_more: Any
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """What blocks for a disk or for arithmetic is one step here."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_soon(run)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The handle is skipped when it is due."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, ProcessKilled):
            self.failures.append(f"{context.get('message')}: {error!r}")


def _process_of(context: Context | None) -> SimProcess | None:
    return _PROCESS.get() if context is None else context.get(_PROCESS)
