"""Blocking work for callers, in threads, with a share for each party.

A caller's file system and a name service may block for any length of time. So a party never has more than its share of
the threads, however much it asks for; parties are served in turn; long work is cut into steps that are queued one by
one; and the threads are daemons, so that none of them keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Hashable
from typing import Any, Protocol, TypeVar

from meshtls.errors import LocalIdentityError

__all__ = ["FairThreads", "Work"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """Something that blocks. Its steps run in threads, one at a time."""

    def step(self) -> T_co | None:
        """Do a part of the work. Returns the result, or None where another step is needed."""

    def close(self) -> None:
        """Release its resources. Called once, when no step runs or will run."""


class _Job:
    def __init__(self, party: Hashable, work: Work[Any], result: asyncio.Future[Any]) -> None:
        self.party = party
        self.work = work
        self.result = result


class FairThreads:
    """At most ``threads`` threads, of which each party uses at most ``share``."""

    def __init__(self, threads: int, share: int) -> None:
        self._threads = threads
        self._share = share
        #: The party that is served next comes first.
        self._waiting: dict[Hashable, deque[_Job]] = {}
        self._running: Counter[Hashable] = Counter()

    async def run(self, party: Hashable, work: Work[T]) -> T:
        """Do the work, close it, and return its result. After a cancellation the running step is the last.

        Raises what a step raises, and LocalIdentityError if the system has no thread for it.
        """
        job = _Job(party, work, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(party, deque()).append(job)
        self._start_waiting()
        try:
            result: T = await job.result
        except asyncio.CancelledError:
            if job in self._waiting.get(party, ()):
                self._take(job)
                work.close()
            raise
        return result

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<FairThreads [{self._running.total()} of {self._threads} threads, {waiting} waiting]>"

    def _take(self, job: _Job) -> None:
        """Remove the job from its party's queue; the party goes behind all others."""
        queue = self._waiting.pop(job.party)
        queue.remove(job)
        if queue:
            self._waiting[job.party] = queue

    def _start_waiting(self) -> None:
        while self._running.total() < self._threads:
            party = next((one for one in self._waiting if self._running[one] < self._share), None)
            if party is None:
                return
            first = self._waiting[party][0]
            self._take(first)
            if first.result.done():  # cancelled a moment ago
                first.work.close()
                continue
            loop = asyncio.get_running_loop()
            try:
                threading.Thread(target=self._step, args=(first, loop), name="meshtls-attest", daemon=True).start()
            except RuntimeError as error:
                first.work.close()
                first.result.set_exception(LocalIdentityError(f"no thread to attest a caller in: {error}"))
            else:
                self._running[first.party] += 1

    def _step(self, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        result, failure = None, None
        try:
            result = job.work.step()
        except BaseException as error:  # noqa: BLE001  # passed on to the task that waits for it
            failure = error
        try:
            loop.call_soon_threadsafe(self._ended, job, result, failure)
        except RuntimeError:
            job.work.close()  # the loop has ended meanwhile

    def _ended(self, job: _Job, result: object, failure: BaseException | None) -> None:
        self._running[job.party] -= 1
        if not self._running[job.party]:
            del self._running[job.party]
        if result is None and failure is None and not job.result.done():
            self._waiting.setdefault(job.party, deque()).append(job)
        else:
            job.work.close()
            if not job.result.done():
                if failure is None:
                    job.result.set_result(result)
                else:
                    job.result.set_exception(failure)
        self._start_waiting()
