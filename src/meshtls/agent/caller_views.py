"""The identities of each caller of the agent, or the status and message with which it is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager

from grpclib import GRPCError, Status

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.cache import View
from meshtls.agent.callers import current_caller
from meshtls.agent.entries import nearest
from meshtls.agent.identities import Identities, Watcher
from meshtls.agent.metrics.counting import Counting
from meshtls.agent.metrics.families import Denial
from meshtls.counted_log import CountedLog
from meshtls.errors import AccessError, LocalIdentityError
from meshtls.logs import logger
from meshtls.registration import Selector
from meshtls.workload.background import in_background

__all__ = ["CallerViews", "Watch"]

log = logger("meshtls.agent")

_NO_IDENTITY = "no identity issued"
_MOST_EXPLAINED = 1024
#: Seconds for which a caller's other SVIDs are held back while one of them is being signed.
_LONGEST_DELAY = 1.0


class Watch:
    """The view of one stream's caller. ``news`` is set when it may have changed; the stream may set it, too."""

    def __init__(self, callers: CallerViews, caller: Caller, watcher: Watcher) -> None:
        self.news = watcher.news
        self._callers = callers
        self._caller = caller
        self._watcher = watcher

    async def view(self) -> View:
        """Attest the caller again and return its view; clears ``news``. Raises GRPCError as CallerViews.view."""
        selectors = await self._callers.attest(self._caller)
        self._watcher.follow(selectors)
        return self._callers.view_for(self._caller, selectors)

    async def settled(self) -> View:
        """The view once none of its SVIDs is being signed; after a second the view as it is, if it has an SVID.

        Raises GRPCError as ``view``.
        """
        view = await self.view()
        if not view.pending:
            return view
        timed_out = asyncio.Event()
        async with in_background(self._time_out(timed_out), "wait for SVIDs that are being signed"):
            while view.pending and not (timed_out.is_set() and view.svids):
                self._callers.identities.prioritize()
                await self.news.wait()
                view = await self.view()
        return view

    async def _time_out(self, timed_out: asyncio.Event) -> None:
        await self._callers.identities.clock.sleep(_LONGEST_DELAY)
        timed_out.set()
        self.news.set()


class CallerViews:
    """``Identities`` for callers: each view is for the calling process, attested at the call.

    Attestations and denials are counted in ``counting``, if given.
    """

    def __init__(self, identities: Identities, attestor: Attestor, counting: Counting | None = None) -> None:
        self.identities = identities
        self._attestor = attestor
        self._counting = counting or Counting()
        self._log = CountedLog(log)
        #: By selectors without a match: the version of the entries when that was logged; the oldest first.
        self._explained: dict[frozenset[Selector], int] = {}

    async def view(self) -> View:
        """The view of the current method's caller.

        Raises GRPCError: PERMISSION_DENIED if it has no identity, UNAVAILABLE as long as that is not known.
        """
        caller = current_caller()
        return self.view_for(caller, await self.attest(caller))

    async def settled(self) -> View:
        """The same, as ``Watch.settled``."""
        with self.watch() as watch:
            return await watch.settled()

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """The same repeatedly, for the caller of the current method."""
        with self.identities.watching() as watcher:
            yield Watch(self, current_caller(), watcher)

    def __repr__(self) -> str:
        return f"<CallerViews {self.identities!r}>"

    async def attest(self, caller: Caller) -> frozenset[Selector]:
        """The caller's selectors now.

        Raises GRPCError: PERMISSION_DENIED, or UNAVAILABLE if this machine has no thread left for the lookups.
        """
        began = time.perf_counter()
        try:
            # Entries change only during an await. If no digest is wanted, none follows this check before ``view_for``.
            return await self._attestor.attest(caller, self.identities.cache.entries.digest_could_match)
        except LocalIdentityError as error:
            self._log.warning(
                ("not attested now", caller.credentials.uid), f"{caller} could not be attested now: {error}"
            )
            raise GRPCError(Status.UNAVAILABLE, "the agent cannot attest its caller now") from error
        except AccessError as error:
            self._log.warning(
                ("not attested", caller.credentials.uid),
                f"{caller} could not be attested and gets nothing: {error}",
            )
            self._counting.denied(Denial.ATTESTATION_FAILED)
            raise GRPCError(Status.PERMISSION_DENIED, _NO_IDENTITY) from error
        finally:
            self._counting.attestation.observe(time.perf_counter() - began)

    def view_for(self, caller: Caller, selectors: Set[Selector]) -> View:
        """The view of a caller with these selectors. Raises GRPCError as ``view``."""
        waiting = self.identities.waiting_for
        if why := self.identities.cache.refused:
            # The workload must stop using what it has (SPIFFE Workload API, section 5.2): the server took it back.
            self._counting.denied(Denial.AGENT_REFUSED)
            why = f"the server refuses this agent: {why}"
            self._log.warning(("refused", caller.credentials.uid), f"{caller} gets no identity: {why}")
            raise GRPCError(Status.PERMISSION_DENIED, f"{_NO_IDENTITY}: {why}")
        if waiting:
            raise GRPCError(Status.UNAVAILABLE, f"the agent is waiting for {waiting}")
        view = self.identities.view(selectors)
        if not view.entries:
            self._explain(caller, frozenset(selectors))
            self._counting.denied(Denial.NO_IDENTITY)
            raise GRPCError(Status.PERMISSION_DENIED, _NO_IDENTITY)
        return view

    def _explain(self, caller: Caller, selectors: frozenset[Selector]) -> None:
        """Log why the caller has no identity, once until an entry changes.

        The cost grows with the number of entries, and a denied caller may call again and again.
        """
        entries = self.identities.cache.entries
        if self._explained.get(selectors) == entries.version:
            log.debug("%s has no identity", caller)
            return
        self._explained.pop(selectors, None)
        self._explained[selectors] = entries.version
        while len(self._explained) > _MOST_EXPLAINED:
            del self._explained[next(iter(self._explained))]
        none = f"no registration entry matches its selectors {', '.join(sorted(map(str, selectors))) or '(none)'}"
        near = nearest(entries, selectors)
        why = f"{none}; near miss: {near[0]}" if near else f"{none}; no near miss"
        log.warning("%s has no identity: %s", caller, why)
