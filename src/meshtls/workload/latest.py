"""The newest value of a watch that is followed in the background, and how the watch fares."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError
from meshtls.workload.background import in_background

__all__ = ["Latest"]

T = TypeVar("T")

log = logging.getLogger("meshtls.workload")


class Latest(Generic[T]):
    """One value at a time, each with a higher ``generation``, from 1; the same value again is no new generation.

    ``failures`` counts the tries that failed since the last value and ``last_error`` is the latest of them; ``over``
    says why no further value can come.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._value: T | None = None
        self._news = asyncio.Event()
        self.generation = 0
        self._began_at = 0
        self.failures = 0
        self.last_error: LocalIdentityError | None = None
        self.over: LocalIdentityError | None = None
        self._closed = ""  # for a watch that was closed, whose it was

    @property
    def value(self) -> T:
        """Raises LocalIdentityError where none has come yet, and after ``close``."""
        self.check_open()
        if self._value is None:
            raise self.over or LocalIdentityError(f"no {self._what} yet: enter the source with 'async with' first")
        return self._value

    def begin(self) -> None:
        """The watch begins, or begins again; then what came before is forgotten, but for its generation."""
        self.over = self.last_error = None
        self._closed = ""
        self.failures = 0
        self._began_at = self.generation
        self._value = None
        self._news = asyncio.Event()

    @property
    def closed(self) -> bool:
        """``close`` was called since the watch began."""
        return bool(self._closed)

    @property
    def known(self) -> bool:
        """There is a value."""
        return self._value is not None

    async def follow(self, values: AsyncGenerator[T]) -> None:
        """Take over each value until the watch ends for good."""
        try:
            async with aclosing(values):
                async for value in values:
                    self._take(value)
        except LocalIdentityError as error:
            log.error("%s: no further one will come: %s", self._what, error)  # noqa: TRY400  # the message says it all
            self.end(error)

    def note_failure(self, error: LocalIdentityError) -> None:
        """A try failed and will be repeated."""
        self.failures += 1
        self.last_error = error
        log.warning("%s: try %d failed: %s", self._what, self.failures, error)

    def end(self, why: LocalIdentityError) -> None:
        """No further value; whoever waits for one is told ``why``."""
        self.over = self.last_error = why
        self._news.set()

    def close(self, whose: str) -> None:
        """As ``end``, and until the watch begins again nobody is served the last value any more."""
        self._closed, self._value = whose, None
        self.end(self._was_closed())

    def check_open(self) -> None:
        """Raises LocalIdentityError after ``close``."""
        if self._closed:
            raise self._was_closed()

    async def after(self, generation: int) -> T:
        """Wait for a value of a later generation. Raises LocalIdentityError when none can come any more."""
        while self.generation <= generation:
            self.check_open()
            if self.over:
                raise self.over
            await self._news.wait()
        return self.value

    async def first(self, clock: Clock, timeout: float | None) -> T:
        """Wait at most ``timeout`` seconds, None for ever, for a value. Raises LocalIdentityError where none came."""
        if timeout is None:
            return await self.after(self._began_at)
        async with in_background(self._give_up(clock, timeout), "give up"):
            return await self.after(self._began_at)

    @property
    def trouble(self) -> str:
        """For a repr: empty where all is well."""
        if self.over:
            return ", closed" if self.closed else ", over"
        return f", {self.failures} failed tries" if self.failures else ""

    async def _give_up(self, clock: Clock, timeout: float) -> None:
        await clock.sleep(timeout)
        if self.generation == self._began_at:
            why = self.last_error or "nothing was sent"
            self.end(LocalIdentityError(f"no {self._what} in {timeout:g} s: {why}"))

    def _was_closed(self) -> LocalIdentityError:
        # A new one each time: an exception keeps the frames of all places that it was raised at.
        return LocalIdentityError(f"{self._closed} was closed; enter it again with 'async with'")

    def _take(self, value: T) -> None:
        if self._closed:
            return  # it came while the watch was being taken down
        if self.failures:
            log.info("%s: the Workload API is back after %d failed tries", self._what, self.failures)
        self.failures, self.last_error = 0, None
        if value == self._value:
            return
        self._value = value
        self.generation += 1
        self._news.set()
        self._news = asyncio.Event()
