"""An in-process X509 source that rotates: a snapshot to read, ``changed`` to wait on, a new key each time.

While the CA fails the present SVID is served as long as it is valid by the clock, and not a moment longer: a mesh
outlives its CA's restart, and an expired identity is never shown to a peer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import SystemRandom
from types import TracebackType

from meshtls.agent.fetch import fetch_svid
from meshtls.agent.issuer import Issuer
from meshtls.agent.rotation import LONGEST_BACKOFF, next_rotation, retry_at
from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.observe.readiness import Readiness, readiness_of
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.workload.background import in_background

__all__ = ["RotatingSource", "SourceStatus"]

# Wall time is looked at again this often, since a sleep does not count the time that a suspended machine was away.
_LONGEST_SLEEP = 30.0

log = logger("meshtls.agent")


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a person wants to see of a source. ``failures`` counts tries since the last success, ``last_error`` is
    why the latest of them failed.
    """

    spiffe_id: SpiffeId
    generation: int
    not_after: datetime
    next_try: datetime
    failures: int
    last_error: str | None


class RotatingSource:
    """Meets X509ContextSource over an Issuer. ``async with`` enters with an SVID or raises LocalIdentityError.

    ``jitter`` gives a number in [-1, 1], asked for each rotation and each retry.
    """

    def __init__(self, issuer: Issuer, clock: Clock | None = None, jitter: Callable[[], float] | None = None) -> None:
        self._issuer = issuer
        self._clock = clock or SystemClock()
        self._jitter = jitter or _any_jitter
        self._current: X509Context | None = None
        self._next_try = self._clock.now()
        self._outage = Outage(log, self._clock)
        self._last_error: str | None = None
        self._rotating = asyncio.Lock()
        self._renewed = asyncio.Event()
        self._closed = False

    async def __aenter__(self) -> RotatingSource:
        await self.rotate()
        self._background = in_background(self._keep_rotating(), "rotate")
        await self._background.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._renewed.set()
        await self._background.__aexit__(kind, error, traceback)

    def snapshot(self) -> X509Context:
        """The newest context. Raises LocalIdentityError where its SVID has expired by the clock."""
        context = self._context
        now = self._clock.now()
        if now > context.svid.not_after:
            raise LocalIdentityError(
                f"our SVID {context.svid.spiffe_id} expired at {_clock(context.svid.not_after)}; our clock says"
                f" {_clock(now)}; the last rotation failed: {self._last_error or 'it was not tried yet'}"
            )
        return context

    async def changed(self, after_generation: int | None = None) -> X509Context:
        """Wait for a generation above ``after_generation`` (default: above the present one) and give it.

        Raises LocalIdentityError when the source is closed before that.
        """
        after = self._context.generation if after_generation is None else after_generation
        while self._context.generation <= after:
            if self._closed:
                raise LocalIdentityError(f"the source of {self._context.svid.spiffe_id} was closed")
            await self._renewed.wait()
        return self._context

    async def rotate(self) -> X509Context:
        """Rotate now. Raises LocalIdentityError where that fails; the present SVID is then kept."""
        async with self._rotating:
            return await self._renew()

    def readiness(self) -> Readiness:
        """Whether ``snapshot`` gives a valid SVID now, why not, and for how long where rotation fails."""
        try:
            svid = self.snapshot().svid
        except LocalIdentityError as error:
            return Readiness(False, f"a valid SVID: {error}")
        return readiness_of(svid, self._clock.now(), self._outage.since, self._last_error)

    @property
    def last_error(self) -> str | None:
        """Why the latest try to rotate failed; None if it didn't."""
        return self._last_error

    @property
    def status(self) -> SourceStatus:
        """What a person wants to see."""
        svid, generation = self._context.svid, self._context.generation
        return SourceStatus(
            svid.spiffe_id, generation, svid.not_after, self._next_try, self._outage.failures, self._last_error
        )

    def __repr__(self) -> str:
        if self._current is None:
            return "<RotatingSource not entered>"
        svid = self._current.svid
        trouble = f", {self._outage.failures} failed tries" if self._outage.failures else ""
        return f"<RotatingSource {svid.spiffe_id} gen {self._generation} valid until {_clock(svid.not_after)}{trouble}>"

    @property
    def _context(self) -> X509Context:
        if self._current is None:
            raise LocalIdentityError("this source has no SVID yet: enter it with 'async with' first")
        return self._current

    @property
    def _generation(self) -> int:
        return self._current.generation if self._current else 0

    async def _keep_rotating(self) -> None:
        while True:
            await self._until_next_try()
            async with self._rotating:
                # A failure is logged and stands in the status; the next try is planned.
                with contextlib.suppress(LocalIdentityError):
                    await self._renew()

    async def _renew(self) -> X509Context:
        try:
            svid, bundles = await fetch_svid(self._issuer, self._clock)
        except LocalIdentityError as error:
            self._note_failure(error)
            raise
        return self._adopt(X509Context(self._generation + 1, (svid,), bundles))

    async def _until_next_try(self) -> None:
        while (seconds := self._seconds_to_wait()) > 0:
            await self._clock.sleep(min(seconds, _LONGEST_SLEEP))

    def _seconds_to_wait(self) -> float:
        svid, now = self._context.svid, self._clock.now()
        seconds = (self._next_try - now).total_seconds()
        if now < svid.not_before and seconds > 2 * LONGEST_BACKOFF:
            log.warning(
                "SVID %s: it is not valid before %s, and our clock, set back, says %s; asking for another",
                svid.spiffe_id,
                _clock(svid.not_before),
                _clock(now),
            )
            return 0.0
        return seconds

    def _adopt(self, context: X509Context) -> X509Context:
        svid, now = context.svid, self._clock.now()
        self._next_try = next_rotation(max(svid.not_before, now), svid.not_after, self._jitter())
        self._outage.ended(f"SVID {svid.spiffe_id}: rotation works again")
        log.info("SVID %s: generation %d until %s", svid.spiffe_id, context.generation, _clock(svid.not_after))
        self._last_error = None
        self._current = context
        self._renewed.set()
        self._renewed = asyncio.Event()
        return context

    def _note_failure(self, error: LocalIdentityError) -> None:
        if self._current is None:
            return
        self._last_error = str(error)
        svid, now = self._current.svid, self._clock.now()
        expired = now > svid.not_after
        state = f"the present one {'expired at' if expired else 'is valid until'} {_clock(svid.not_after)}"
        # That it has expired since the failure before is another state.
        self._outage.failed((str(error), expired), f"SVID {svid.spiffe_id}: rotation failed: {error}; {state}")
        self._next_try = retry_at(now, svid.not_after, self._outage.failures, self._jitter())


def _any_jitter() -> float:
    return SystemRandom().uniform(-1, 1)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
