"""An in-process X509 source that rotates: a snapshot to read, ``changed`` to wait on, a new key each time.

While the CA fails, the present SVID is served until it expires, and not after: a mesh survives a restart of its CA, and
never presents an expired identity to a peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.identity.issuer import Issuer
from meshtls.identity.renewal import SvidRenewal
from meshtls.identity.request import fetch_svid
from meshtls.identity.schedule import Schedule
from meshtls.logs import logger
from meshtls.observe.readiness import Readiness, readiness_of
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid, format_moment
from meshtls.workload.background import in_background
from meshtls.workload.calls import any_jitter

__all__ = ["RotatingSource", "SourceStatus"]

log = logger("meshtls.identity")


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source's state, for people.

    ``failures`` counts the attempts since the last success; ``last_error`` is the latest failure.
    """

    spiffe_id: SpiffeId
    generation: int
    not_after: datetime
    next_try: datetime
    failures: int
    last_error: str | None


class RotatingSource:
    """Meets X509ContextSource over an Issuer. ``async with`` enters with an SVID or raises LocalIdentityError.

    ``jitter`` returns a number in [-1, 1]; it is called for each rotation and each retry.
    """

    def __init__(self, issuer: Issuer, clock: Clock | None = None, jitter: Callable[[], float] | None = None) -> None:
        self._issuer = issuer
        self._clock = clock or SystemClock()
        self._current: X509Context | None = None
        self._renewal = SvidRenewal(self._next_svid, self._clock, jitter or any_jitter, log)
        self._changed = asyncio.Event()
        self._closed = False

    async def __aenter__(self) -> RotatingSource:
        await self.rotate()
        self._background = in_background(self._renewal.run(), "rotate")
        await self._background.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._changed.set()
        await self._background.__aexit__(kind, error, traceback)

    def snapshot(self) -> X509Context:
        """The newest context. Raises LocalIdentityError if its SVID has expired by the clock."""
        context = self._context
        now = self._clock.now()
        if now > context.svid.not_after:
            raise LocalIdentityError(
                f"our SVID {context.svid.spiffe_id} expired at {format_moment(context.svid.not_after)}; our clock says"
                f" {format_moment(now)}; the last rotation failed: {self.last_error or 'it was not tried yet'}"
            )
        return context

    async def changed(self, after_generation: int | None = None) -> X509Context:
        """Wait for a generation above ``after_generation`` (default: the present one) and return it.

        Raises LocalIdentityError if the source is closed first.
        """
        after = self._context.generation if after_generation is None else after_generation
        while self._context.generation <= after:
            if self._closed:
                raise LocalIdentityError(f"the source of {self._context.svid.spiffe_id} was closed")
            await self._changed.wait()
        return self._context

    async def rotate(self) -> X509Context:
        """Rotate now. Raises LocalIdentityError if that fails; the present SVID is then kept."""
        await self._renewal.renew()
        return self._context

    def readiness(self) -> Readiness:
        """Whether ``snapshot`` returns a valid SVID now, why not, and for how long if rotation fails."""
        try:
            svid = self.snapshot().svid
        except LocalIdentityError as error:
            return Readiness(False, f"a valid SVID: {error}")
        schedule = self._schedule
        return readiness_of(
            svid,
            self._clock.now(),
            received=schedule.received,
            failing_since=schedule.failing_since,
            why=schedule.last_error,
        )

    @property
    def last_error(self) -> str | None:
        """The error of the latest rotation; None if it succeeded."""
        return self._renewal.schedule.last_error if self._renewal.schedule else None

    @property
    def status(self) -> SourceStatus:
        """The present SVID and the state of its rotation."""
        svid, schedule = self._context.svid, self._schedule
        return SourceStatus(
            svid.spiffe_id,
            self._context.generation,
            svid.not_after,
            schedule.due,
            schedule.failures,
            schedule.last_error,
        )

    def __repr__(self) -> str:
        if self._current is None:
            return "<RotatingSource not entered>"
        svid, failures = self._current.svid, self._schedule.failures
        trouble = f", {failures} failed tries" if failures else ""
        state = f"gen {self._current.generation} valid until {format_moment(svid.not_after)}{trouble}"
        return f"<RotatingSource {svid.spiffe_id} {state}>"

    @property
    def _context(self) -> X509Context:
        if self._current is None:
            raise LocalIdentityError("this source has no SVID yet: enter it with 'async with' first")
        return self._current

    @property
    def _schedule(self) -> Schedule:
        if self._renewal.schedule is None:
            raise LocalIdentityError("this source has no SVID yet: enter it with 'async with' first")
        return self._renewal.schedule

    async def _next_svid(self) -> X509Svid:
        svid, bundles = await fetch_svid(self._issuer, self._clock)
        generation = self._current.generation + 1 if self._current else 1
        log.info("SVID %s: generation %d until %s", svid.spiffe_id, generation, format_moment(svid.not_after))
        self._current = X509Context(generation, (svid,), bundles)
        self._changed.set()
        self._changed = asyncio.Event()
        return svid
