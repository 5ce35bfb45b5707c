"""A clock that a test owns: time moves when the test says so, and a test can wait until someone sleeps on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["ManualClock"]


class ManualClock:
    """Implements meshtls.clock.Clock. Starts at the real time by default, since OpenSSL uses the machine's clock."""

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime.now(UTC).replace(microsecond=0)
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        # Counted from the call: a sleep in another task starts a loop iteration later, when time may have advanced.
        return self._sleep_until(self._elapsed + seconds)

    async def _sleep_until(self, deadline: float) -> None:
        if deadline <= self._elapsed:
            await asyncio.sleep(0)
            return
        sleeper = (deadline, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        self._changed.set()
        try:
            await sleeper[1]
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Advance time and wake all due sleepers, earliest first. They run when the test next awaits."""
        self._elapsed += seconds
        due = sorted((s for s in self._sleepers if s[0] <= self._elapsed), key=lambda sleeper: sleeper[0])
        for sleeper in due:
            self._sleepers.remove(sleeper)
            if not sleeper[1].done():
                sleeper[1].set_result(None)

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back, as a correction of the time does. No sleeper is woken."""
        self._start -= timedelta(seconds=seconds)

    async def until_sleepers(self, count: int = 1) -> None:
        """Wait until at least ``count`` tasks sleep on this clock."""
        while len(self._sleepers) < count:
            self._changed.clear()
            await self._changed.wait()

    @property
    def wakes_in(self) -> tuple[float, ...]:
        """Seconds until each sleeper wakes, soonest first."""
        return tuple(sorted(deadline - self._elapsed for deadline, _ in self._sleepers))

    def __repr__(self) -> str:
        return f"<ManualClock {self.now():%Y-%m-%dT%H:%M:%SZ} [{len(self._sleepers)} asleep]>"
