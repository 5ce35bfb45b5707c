"""The renewal loop for in-process sources, the agent's SVIDs, the agent's own SVID and the server's.

``Schedule``, which is pure, decides when to renew and when to retry; this module waits and logs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from meshtls.clock import Clock
from meshtls.errors import MeshtlsError
from meshtls.identity.schedule import Schedule
from meshtls.observe.outage import Outage
from meshtls.svid.x509 import X509Svid, format_moment
from meshtls.workload.background import in_background

__all__ = ["RenewalLoop", "SvidRenewal", "fate_of"]

#: Seconds. The wall clock is read again this often, since a sleep does not count the time for which the machine was
#: suspended.
_LONGEST_SLEEP = 30.0


class RenewalLoop:
    """Waits until something is due or ``wake`` is called, then calls ``renew``; forever."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wakeup = asyncio.Event()

    def wake(self) -> None:
        """Evaluate ``due`` again: what is due, or the order, may have changed."""
        self._wakeup.set()

    @property
    def woken(self) -> bool:
        """Whether ``wake`` was called since the last call of ``due``. A long renewal may then end early."""
        return self._wakeup.is_set()

    async def run(self, due: Callable[[datetime], datetime | None], renew: Callable[[], Awaitable[None]]) -> None:
        """Renew forever. ``due(now)`` returns when to call ``renew`` next, None for not before the next ``wake``.

        After ``renew`` nothing that it has tried may be due still: a failure has to schedule the next attempt.
        """
        while True:
            self._wakeup.clear()
            now = self._clock.now()
            when = due(now)
            if when is not None and when <= now:
                await renew()
                continue
            seconds = _LONGEST_SLEEP if when is None else min((when - now).total_seconds(), _LONGEST_SLEEP)
            async with in_background(self._wake_after(seconds), "wait for the next renewal"):
                await self._wakeup.wait()

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wakeup.set()


class SvidRenewal:
    """Keeps one SVID renewed. ``run`` does so forever; ``renew`` renews once, now.

    - ``make`` obtains the next SVID and puts it to use, or raises a MeshtlsError; the present one is then kept.
    - ``jitter`` returns a number in [-1, 1]; it is called for each attempt.

    An outage is logged when it begins, when its cause changes, when the SVID expires, and when it ends.
    """

    def __init__(
        self, make: Callable[[], Awaitable[X509Svid]], clock: Clock, jitter: Callable[[], float], log: logging.Logger
    ) -> None:
        self.schedule: Schedule | None = None
        self._make = make
        self._clock = clock
        self._jitter = jitter
        self._log = log
        self._svid: X509Svid | None = None
        self._outage = Outage(log, clock)
        self._loop = RenewalLoop(clock)
        self._renewing = asyncio.Lock()

    async def run(self) -> None:
        """Renew whenever it is due. Nothing is due before there is a first SVID."""
        await self._loop.run(self._due, self._renew_if_due)

    async def renew(self) -> X509Svid:
        """Renew now. Raises what ``make`` raises, after scheduling the next attempt."""
        async with self._renewing:
            return await self._renew()

    def replaced(self, svid: X509Svid, received: datetime | None = None) -> None:
        """This SVID is in use from now on. ``received`` is when it arrived, now by default."""
        self._svid = svid
        self.schedule = Schedule.of(svid, received or self._clock.now(), self._jitter())
        self._outage.ended(f"SVID {svid.spiffe_id}: renewal works again")
        self._loop.wake()

    def hasten(self) -> None:
        """Replace the present SVID within seconds: its authority is tainted."""
        if self.schedule is not None:
            self.schedule = self.schedule.hastened(self._clock.now(), self._jitter())
            self._loop.wake()

    def lost(self) -> None:
        """There is no SVID any more, and so nothing to renew."""
        self._svid = self.schedule = None
        self._loop.wake()

    def __repr__(self) -> str:
        if self._svid is None or self.schedule is None:
            return "<SvidRenewal [no SVID]>"
        state = f"due {format_moment(self.schedule.due)}, {self.schedule.failures} failures"
        return f"<SvidRenewal {self._svid.spiffe_id} [{state}]>"

    def _due(self, now: datetime) -> datetime | None:
        return self.schedule.due_at(now) if self.schedule else None

    async def _renew_if_due(self) -> None:
        async with self._renewing:
            now = self._clock.now()
            due = self._due(now)
            if due is None or now < due:
                return  # renewed or lost while this task waited for the lock
            self._warn_if_set_back(now)
            try:
                await self._renew()
            except MeshtlsError:
                return  # already logged, and the schedule has the next attempt

    async def _renew(self) -> X509Svid:
        try:
            svid = await self._make()
        except MeshtlsError as error:
            self._note_failure(error)
            raise
        self.replaced(svid)
        return svid

    def _note_failure(self, error: MeshtlsError) -> None:
        svid, schedule, now = self._svid, self.schedule, self._clock.now()
        if svid is None or schedule is None:
            return
        self.schedule = schedule.failed(now, str(error), self._jitter())
        text = f"SVID {svid.spiffe_id}: renewal failed: {error}; {fate_of(svid, now)}"
        # Not the error's text, which may hold the time. Whether the SVID has expired is part of the cause.
        cause = (type(error), schedule.has_expired(now))
        self._outage.failed(cause, f"{text}; next attempt at {format_moment(self.schedule.due)}")

    def _warn_if_set_back(self, now: datetime) -> None:
        svid = self._svid
        if svid is None or svid.not_before <= now or self._outage.failures:
            return
        self._log.warning(
            "SVID %s: not valid before %s, but our clock, set back, says %s; renewing it now",
            svid.spiffe_id,
            format_moment(svid.not_before),
            format_moment(now),
        )


def fate_of(svid: X509Svid | None, now: datetime) -> str:
    """When the present SVID expires, for a log line about a failed renewal."""
    if svid is None:
        return "there is none yet"
    state = "is valid until" if now <= svid.not_after else "expired at"
    return f"the present one {state} {format_moment(svid.not_after)}"
