"""The agent's one piece of state at work: it follows the upstream, keeps every SVID renewed and wakes who waits.

All that decides is in the cache, which is pure; here are the waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import aclosing
from datetime import datetime, timedelta

from meshtls.agent.cache import SvidCache, View
from meshtls.agent.renewal import Renewed, renew
from meshtls.agent.rotation import next_rotation, retry_at
from meshtls.agent.upstream import Upstream
from meshtls.ca.registration import Entry, Selector
from meshtls.clock import Clock
from meshtls.errors import MeshtlsError, RequestError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.observe.readiness import Readiness
from meshtls.svid.x509 import X509Svid
from meshtls.workload.background import in_background

__all__ = ["Identities", "Subscription"]

# Wall time is looked at again this often, since a sleep does not count the time that a suspended machine was away.
_LONGEST_SLEEP = 30.0

log = logger("meshtls.agent")


class Subscription:
    """One workload's wait for news. ``news`` is set when its view may have changed."""

    def __init__(self, cache: SvidCache, number: int) -> None:
        self.news = asyncio.Event()
        self._cache = cache
        self._number = number

    def follow(self, selectors: frozenset[Selector]) -> None:
        """From now on it is about a workload with these selectors; what was known before is no news any more."""
        self.news.clear()
        self._cache.subscribers.change(self._number, selectors)


class Identities:
    """``run`` does the work; the rest answers from what is there. ``jitter`` gives a number in [-1, 1]."""

    def __init__(self, upstream: Upstream, clock: Clock, jitter: Callable[[], float]) -> None:
        self.upstream = upstream
        self.clock = clock
        self.cache = SvidCache(upstream.trust_domain)
        self._jitter = jitter
        self._outage = Outage(log, clock)
        self._subscriptions: dict[int, Subscription] = {}
        self._work = asyncio.Event()
        self._stirred = asyncio.Event()

    async def run(self) -> None:
        """Follow the upstream and renew, for ever."""
        async with in_background(self._follow(), "follow the upstream"):
            await self._keep_renewing()

    def view(self, selectors: Set[Selector]) -> View:
        """What a workload with these selectors gets now."""
        return self.cache.view(selectors, self.clock.now())

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Hear of changes while the body runs."""
        number = self.cache.subscribers.add()
        subscription = self._subscriptions[number] = Subscription(self.cache, number)
        try:
            yield subscription
        finally:
            del self._subscriptions[number]
            self.cache.subscribers.remove(number)

    def hurry(self) -> None:
        """A workload waits for an SVID: it is signed before those that nobody waits for."""
        self._work.set()

    async def until_ready(self) -> None:
        """Wait until all is heard and every SVID was signed, or refused, once."""
        while self.waiting_for or self.cache.untried:
            await self._stirred.wait()

    @property
    def waiting_for(self) -> str | None:
        """What is awaited before workloads can be served, None when nothing."""
        if not self.cache.synced:
            return f"the entries: {self.upstream.trouble or 'the CA has not sent them yet'}"
        return None

    def readiness(self) -> Readiness:
        """Whether every entry has a valid SVID to serve now, why not, or for how long while the upstream is away."""
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
                self._tell(self.cache.apply(update))
                self._work.set()

    async def _keep_renewing(self) -> None:
        while True:
            self._work.clear()
            now = self.clock.now()
            self._tell(self.cache.expire(now))
            due = self.cache.due(now)
            if due:
                await self._renew(due)
            else:
                await self._until(self.cache.next_event(now), now)

    async def _renew(self, due: tuple[Entry, ...]) -> None:
        async with aclosing(renew(due, self.upstream, self.cache.bundles, self.clock)) as batches:
            async for batch in batches:
                self._log_failures(batch)
                self._tell({number for renewed in batch for number in self._keep(renewed)})
                if self._work.is_set():
                    return  # the order may be another now

    def _keep(self, renewed: Renewed) -> Set[int]:
        if isinstance(renewed.svid, MeshtlsError):
            return self._note_failure(renewed.entry, renewed.svid)
        svid, now = renewed.svid, self.clock.now()
        log.info("SVID %s: %s until %s", svid.spiffe_id, svid.serial, _clock(svid.not_after))
        renew_at = next_rotation(max(svid.not_before, now), svid.not_after, self._jitter())
        return self.cache.signed(renewed.entry, svid, renew_at)

    def _note_failure(self, entry: Entry, error: MeshtlsError) -> Set[int]:
        held, now = self.cache.svid_of(entry.id), self.clock.now()
        refused = _is_refusal(error)
        # A refusal is for what the entry is, and asking every second would not change that.
        end = held.not_after if held and not refused else None
        again = retry_at(now, end, self.cache.attempts(entry.id) + 1, self._jitter())
        return self.cache.failed(entry, now, again, str(error), refused=refused)

    def _log_failures(self, batch: Sequence[Renewed]) -> None:
        """A refusal is told once for each entry and reason; all other failures are one outage."""
        failed = []
        for renewed in batch:
            if not isinstance(renewed.svid, MeshtlsError):
                continue
            if not _is_refusal(renewed.svid):
                failed.append(renewed)
            elif self.cache.trouble_of(renewed.entry.id) != str(renewed.svid):
                state = _state(self.cache.svid_of(renewed.entry.id), self.clock.now())
                log.warning("SVID %s: refused: %s; %s", renewed.entry.spiffe_id, renewed.svid, state)
        if not failed:
            self._outage.ended("SVIDs are signed again")
            return
        first, now = failed[0], self.clock.now()
        held = self.cache.svid_of(first.entry.id)
        text = f"{len(failed)} SVIDs could not be signed: {first.svid}; of {first.entry.spiffe_id} {_state(held, now)}"
        self._outage.failed((type(first.svid), held is not None and held.not_after < now), f"{text}; trying again")

    async def _until(self, when: datetime | None, now: datetime) -> None:
        seconds = min(((when or now + timedelta(days=1)) - now).total_seconds(), _LONGEST_SLEEP)
        async with in_background(self._wake_after(seconds), "wait for the next renewal"):
            await self._work.wait()

    async def _wake_after(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        self._work.set()

    def _tell(self, numbers: Set[int]) -> None:
        self._stirred.set()
        self._stirred = asyncio.Event()
        for number in numbers:
            subscription = self._subscriptions.get(number)
            if subscription is not None:
                subscription.news.set()


def _is_refusal(error: MeshtlsError) -> bool:
    """It says that this entry can't have what it asks for, not that nobody can have anything now."""
    return isinstance(error, RequestError)


def _state(held: X509Svid | None, now: datetime) -> str:
    if held is None:
        return "there is none yet"
    return f"the present one {'is valid until' if now <= held.not_after else 'expired at'} {_clock(held.not_after)}"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
