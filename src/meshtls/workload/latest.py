"""The newest value of a watch that runs in the background, and the state of the watch."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Generic, TypeVar

from meshtls.clock import Clock
from meshtls.errors import IdentityWithdrawnError, LocalIdentityError
from meshtls.logs import logger
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.observe.outage import Outage
from meshtls.workload.background import in_background
from meshtls.workload.failures import WorkloadApiError, reason_of

__all__ = ["Latest"]

T = TypeVar("T")

log = logger("meshtls.workload")


class Latest(Generic[T]):
    """The latest value of a watch. Each has a higher ``generation``, from 1; an equal value is no new generation.

    - ``outage`` counts the attempts that failed since the last value; ``last_error`` is the latest failure.
    - ``over``: why there can be no further value.
    - ``withdrawn``: why the value must no longer be used; None once there is a newer one.
    - ``failures`` counts all failed attempts by their reason, over restarts of the watch.
    """

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._value: T | None = None
        self._news = asyncio.Event()
        self.generation = 0
        self._began_at = 0
        self.outage = Outage(log, clock)
        self.last_error: LocalIdentityError | None = None
        self.withdrawn: LocalIdentityError | None = None
        self.over: LocalIdentityError | None = None
        self.failures: Counter[IdentityFailure] = Counter()
        self._closed = ""  # the owner's name, once the watch was closed

    @property
    def value(self) -> T:
        """The value. Raises LocalIdentityError before the first and after ``close``, or IdentityWithdrawnError."""
        self.check_open()
        if self.withdrawn is not None:
            raise IdentityWithdrawnError(f"{self._what} withdrawn: {self.withdrawn}") from self.withdrawn
        if self._value is None:
            raise self.over or LocalIdentityError(f"no {self._what} yet: enter the source with 'async with' first")
        return self._value

    def begin(self) -> None:
        """Start the watch, or restart it: all state except the generation is dropped."""
        self.over = self.last_error = self.withdrawn = None
        self._closed = ""
        self.outage = Outage(log, self._clock)
        self._began_at = self.generation
        self._value = None
        self._news = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called since the watch began."""
        return bool(self._closed)

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self._value is not None

    @property
    def ever_known(self) -> bool:
        """Whether there was a value since the watch began."""
        return self.generation > self._began_at

    async def follow(self, values: AsyncGenerator[T]) -> None:
        """Take each value until the watch ends permanently."""
        try:
            async with aclosing(values):
                async for value in values:
                    self._take(value)
        except LocalIdentityError as error:
            reason = reason_of(error)
            self.failures[reason] += 1
            self.outage.failed(_cause(error), f"{self._what}: {reason.value}: giving up: {error}", logging.ERROR)
            self.end(error)

    def note_failure(self, error: LocalIdentityError) -> None:
        """Note a failed attempt, which will be repeated. PERMISSION_DENIED withdraws the present value."""
        self.last_error = error
        reason = reason_of(error)
        self.failures[reason] += 1
        if isinstance(error, WorkloadApiError) and error.withdraws:
            self.withdraw(error)
        kept = "" if self.known or not self.ever_known else "; the previous one is no longer used"
        self.outage.failed(_cause(error), f"{self._what}: {reason.value}: {error}{kept}; trying again")

    def withdraw(self, why: LocalIdentityError) -> None:
        """Withdraw the present value, and wake ``until_withdrawn``."""
        if self._value is None:
            return
        self._value, self.withdrawn = None, why
        self._notify()

    async def until_withdrawn(self) -> LocalIdentityError:
        """Wait until the value is withdrawn, and return the reason. Raises LocalIdentityError as ``after``."""
        while self.withdrawn is None:
            self.check_open()
            if self.over:
                raise self.over
            await self._news.wait()
        return self.withdrawn

    def end(self, why: LocalIdentityError) -> None:
        """End the watch permanently: every wait for a value raises ``why``."""
        self.over = self.last_error = why
        self._news.set()

    def close(self, whose: str) -> None:
        """As ``end``; the last value is not returned any more until the watch is restarted."""
        self._closed, self._value, self.withdrawn = whose, None, None
        self.end(self._was_closed())

    def check_open(self) -> None:
        """Raises LocalIdentityError after ``close``."""
        if self._closed:
            raise self._was_closed()

    async def after(self, generation: int) -> T:
        """Wait for a value of a later generation. Raises LocalIdentityError if there can be no more."""
        while self.generation <= generation or self.withdrawn is not None:
            self.check_open()
            if self.over:
                raise self.over
            await self._news.wait()
        return self.value

    async def first(self, timeout: float | None) -> T:
        """Wait for a value, at most ``timeout`` seconds, None for no limit. Raises LocalIdentityError after that."""
        if timeout is None:
            return await self.after(self._began_at)
        async with in_background(self._give_up(timeout), "give up"):
            return await self.after(self._began_at)

    @property
    def failing_since(self) -> datetime | None:
        """When the first attempt since the last value failed; None if none has."""
        return self.outage.since

    @property
    def trouble(self) -> str:
        """The trouble for a repr; empty without failures."""
        if self.over:
            return ", closed" if self.closed else ", over"
        lost = ", withdrawn" if self.withdrawn else ""
        return f"{lost}, {self.outage.failures} failed tries" if self.outage.failures else lost

    async def _give_up(self, timeout: float) -> None:
        await self._clock.sleep(timeout)
        if self.generation == self._began_at:
            why = self.last_error or "nothing was sent"
            self.end(LocalIdentityError(f"no {self._what} in {timeout:g} s: {why}"))

    def _was_closed(self) -> LocalIdentityError:
        # A new exception each time, since one that is raised again accumulates the frames of every place.
        return LocalIdentityError(f"{self._closed} was closed; enter it again with 'async with'")

    def _take(self, value: T) -> None:
        if self._closed:
            return  # it came while the watch was being closed
        self.outage.ended(f"{self._what}: the Workload API sends it again")
        self.last_error = None
        if value == self._value:
            return
        self._value, self.withdrawn = value, None
        self.generation += 1
        self._notify()

    def _notify(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _cause(error: LocalIdentityError) -> object:
    """A key that is equal for failures with the same meaning to an operator, whatever their text."""
    status = error.status if isinstance(error, WorkloadApiError) else None
    return type(error), status, type(error.__cause__)
