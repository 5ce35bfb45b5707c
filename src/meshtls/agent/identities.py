"""Follows the upstream, keeps every SVID renewed and notifies the watchers.

The cache decides, and is pure; this module waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import aclosing

from meshtls.agent.cache import SvidCache, View
from meshtls.agent.signing import SigningOutcome, sign
from meshtls.agent.tokens import Tokens
from meshtls.agent.upstream import Upstream
from meshtls.clock import Clock
from meshtls.errors import MeshtlsError, RequestError
from meshtls.identity.renewal import RenewalLoop, fate_of
from meshtls.identity.schedule import Schedule
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.observe.readiness import Readiness
from meshtls.registration import Selector
from meshtls.scalars import count_of
from meshtls.svid.x509 import format_moment
from meshtls.workload.background import in_background

__all__ = ["Identities", "Watcher"]

log = logger("meshtls.agent")


class Watcher:
    """Watches one workload's view. ``news`` is set when the view may have changed."""

    def __init__(self, cache: SvidCache, number: int) -> None:
        self.news = asyncio.Event()
        self._cache = cache
        self._number = number

    def follow(self, selectors: frozenset[Selector]) -> None:
        """Watch the view of a workload with these selectors from now on, and clear ``news``."""
        self.news.clear()
        self._cache.watchers.change(self._number, selectors)


class Identities:
    """Keeps the SVIDs of an agent's entries fresh. ``run`` does the work; everything else reads the cache, or
    ``tokens``. ``jitter`` returns a number in [-1, 1].

    ``rotations`` counts what came of each request for an X509-SVID: issued, renewed, refused or failed.
    """

    def __init__(self, upstream: Upstream, clock: Clock, jitter: Callable[[], float]) -> None:
        self.upstream = upstream
        self.clock = clock
        self.cache = SvidCache(upstream.trust_domain)
        self.tokens = Tokens(upstream, clock, jitter)
        self.rotations: Counter[str] = Counter()
        self._jitter = jitter
        self._outage = Outage(log, clock)
        #: Entries whose SVID has expired in the present outage, which was logged.
        self._expired: set[str] = set()
        self._watchers: dict[int, Watcher] = {}
        self._loop = RenewalLoop(clock)
        self._state_changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the upstream and renew, forever."""
        async with in_background(self._follow(), "follow the upstream"):
            await self._loop.run(self.cache.next_event, self._renew_due)

    def view(self, selectors: Set[Selector]) -> View:
        """The view of a workload with these selectors."""
        return self.cache.view(selectors, self.clock.now())

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watcher]:
        """Be notified of changes while the body runs."""
        number = self.cache.watchers.add()
        watcher = self._watchers[number] = Watcher(self.cache, number)
        try:
            yield watcher
        finally:
            del self._watchers[number]
            self.cache.watchers.remove(number)

    @property
    def watching_now(self) -> int:
        """The number of watchers: streams of callers that are served."""
        return len(self._watchers)

    def prioritize(self) -> None:
        """Look again at what is due: awaited SVIDs come first (``SvidCache.due``)."""
        self._loop.wake()

    async def until_ready(self) -> None:
        """Wait until the upstream has sent the entries, and every SVID was signed or refused once."""
        while self.waiting_for or self.cache.untried:
            await self._state_changed.wait()

    @property
    def waiting_for(self) -> str | None:
        """What is awaited before workloads can be served; None if nothing is."""
        if not self.cache.synced:
            return f"the entries: {self.upstream.trouble or 'the CA has not sent them yet'}"
        return None

    def readiness(self) -> Readiness:
        """Whether every entry has a valid SVID now, why not, or for how long while the upstream is away."""
        if self.waiting_for:
            return Readiness(False, self.waiting_for)
        now, trouble = self.clock.now(), self.upstream.trouble
        state = self.cache.readiness(now)
        if not state.ready or state.text or not trouble:
            return state
        first = self.cache.first_end(now)
        end = f"; the first SVID expires in {int((first - now).total_seconds())} s" if first else ""
        return Readiness(True, f"{trouble}{end}")

    def __repr__(self) -> str:
        return f"<Identities {self.cache!r}>"

    async def _follow(self) -> None:
        async with aclosing(self.upstream.watch()) as updates:
            async for update in updates:
                self.tokens.apply(update)
                self._notify(self.cache.apply(update))
                if update.tainted and (count := self.cache.hasten(update.tainted, self.clock.now(), self._jitter())):
                    log.info("%d SVIDs hang on a tainted authority: they are replaced now", count)
                self._loop.wake()

    async def _renew_due(self) -> None:
        now = self.clock.now()
        self._notify(self.cache.expire(now))
        due = self.cache.due(now)
        async with aclosing(sign(due, self.upstream, self.cache.bundles, self.clock)) as batches:
            async for batch in batches:
                before = {signed.entry.id: self.cache.schedule_of(signed.entry.id) for signed in batch}
                self._notify({number for signed in batch for number in self._keep(signed)})
                self._log_failures(batch, before)
                if self._loop.woken:
                    return  # the order may have changed

    def _keep(self, signed: SigningOutcome) -> Set[int]:
        entry, svid, now = signed.entry, signed.svid, self.clock.now()
        if isinstance(svid, MeshtlsError):
            self.rotations["refused" if _is_refusal(svid) else "failed"] += 1
            return self.cache.failed(entry, now, self._jitter(), str(svid), refused=_is_refusal(svid))
        self.rotations["issued" if self.cache.svid_of(entry.id) is None else "renewed"] += 1
        log.info("SVID %s: %s until %s", svid.spiffe_id, svid.serial, format_moment(svid.not_after))
        return self.cache.signed(entry, svid, now, self._jitter())

    def _log_failures(self, batch: Sequence[SigningOutcome], before: Mapping[str, Schedule | None]) -> None:
        """A refusal is logged once for each entry and reason; all other failures are one outage.

        ``before``: the schedules of the batch's entries before it was signed.
        """
        now = self.clock.now()
        failed = []
        for signed in batch:
            if not isinstance(signed.svid, MeshtlsError):
                continue
            if not _is_refusal(signed.svid):
                failed.append(signed)
                continue
            schedule = before[signed.entry.id]
            if schedule is None or schedule.last_error != str(signed.svid):
                fate = fate_of(self.cache.svid_of(signed.entry.id), now)
                log.warning("SVID %s: refused: %s; %s", signed.entry.spiffe_id, signed.svid, fate)
        if not failed:
            self._expired.clear()
            self._outage.ended("SVIDs are signed again")
            return
        held = ((one, self.cache.svid_of(one.entry.id)) for one in failed)
        expired = {one.entry.id: one for one, svid in held if svid is not None and svid.not_after < now}
        ended = [one for key, one in expired.items() if key not in self._expired]
        self._expired |= expired.keys()
        first = (ended or failed)[0]
        fate = fate_of(self.cache.svid_of(first.entry.id), now)
        text = f"{count_of(len(failed), 'SVID')} could not be signed: {first.svid}; of {first.entry.spiffe_id} {fate}"
        schedule = self.cache.schedule_of(first.entry.id)
        text += f"; next attempt at {format_moment(schedule.due)}" if schedule else "; trying again"
        if ended and self._outage.failures:
            log.warning("%s", text)
        # Not which SVID it is, nor whether it has expired: those that end at different times have one cause.
        self._outage.failed(type(first.svid), text)

    def _notify(self, numbers: Set[int]) -> None:
        self._state_changed.set()
        self._state_changed = asyncio.Event()
        for number in numbers:
            watcher = self._watchers.get(number)
            if watcher is not None:
                watcher.news.set()


def _is_refusal(error: MeshtlsError) -> bool:
    """Whether the error is about this entry, and not about signing as such."""
    return isinstance(error, RequestError)
