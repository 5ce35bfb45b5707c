"""Who calls, what that caller gets, and with which words it is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Set
from contextlib import contextmanager

from grpclib import GRPCError, Status

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.cache import View
from meshtls.agent.callers import current_caller
from meshtls.agent.entries import nearest
from meshtls.agent.identities import Identities, Watcher
from meshtls.ca.registration import Selector
from meshtls.errors import AccessError, LocalIdentityError
from meshtls.logs import logger
from meshtls.rpc.shedding import CountedLog
from meshtls.workload.background import in_background

__all__ = ["CallerViews", "Watch"]

log = logger("meshtls.agent")

_NO_IDENTITY = "no identity issued"
_MOST_EXPLAINED = 1024
#: Seconds for which a caller's other SVIDs are held back while one of them is being signed.
_PATIENCE = 1.0


class Watch:
    """One stream's look at what its caller gets. ``news`` is set when that may have changed; others may set it too."""

    def __init__(self, callers: CallerViews, caller: Caller, watcher: Watcher) -> None:
        self.news = watcher.news
        self._callers = callers
        self._caller = caller
        self._watcher = watcher

    async def view(self) -> View:
        """What the caller, attested anew, gets now; it is no news any more. Raises GRPCError as CallerViews.view."""
        selectors = await self._callers.attest(self._caller)
        self._watcher.follow(selectors)
        return self._callers.judge(self._caller, selectors)

    async def settled(self) -> View:
        """The view when none of its SVIDs is being signed any more; a second later what there is, if there is one.

        Raises GRPCError as ``view``.
        """
        view = await self.view()
        if not view.pending:
            return view
        over = asyncio.Event()
        async with in_background(self._lose_patience(over), "wait for SVIDs that are being signed"):
            while view.pending and not (over.is_set() and view.svids):
                self._callers.identities.prioritize()
                await self.news.wait()
                view = await self.view()
        return view

    async def _lose_patience(self, over: asyncio.Event) -> None:
        await self._callers.identities.clock.sleep(_PATIENCE)
        over.set()
        self.news.set()


class CallerViews:
    """The callers' side of ``Identities``: every answer is for the process that asks, attested when it asks."""

    def __init__(self, identities: Identities, attestor: Attestor) -> None:
        self.identities = identities
        self._attestor = attestor
        self._log = CountedLog(log)
        #: Oldest first, at which version of the entries it was.
        self._explained: dict[frozenset[Selector], int] = {}

    async def view(self) -> View:
        """What the caller of the method that runs here gets. Raises GRPCError with PERMISSION_DENIED where it has no
        identity, UNAVAILABLE as long as that isn't known.
        """
        caller = current_caller()
        return self.judge(caller, await self.attest(caller))

    async def settled(self) -> View:
        """The same, as ``Watch.settled``."""
        with self.watch() as watch:
            return await watch.settled()

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """The same again and again, for the caller of the method that runs here."""
        with self.identities.watching() as watcher:
            yield Watch(self, current_caller(), watcher)

    def __repr__(self) -> str:
        return f"<CallerViews {self.identities!r}>"

    async def attest(self, caller: Caller) -> frozenset[Selector]:
        """What is true of the caller now. Raises GRPCError with PERMISSION_DENIED, or UNAVAILABLE where this machine
        has no room for the question.
        """
        try:
            # What is asked for may change at each await: here, and then in ``judge``, it is that of one moment.
            return await self._attestor.attest(caller, self.identities.cache.entries.ask_for_digest)
        except LocalIdentityError as error:
            self._log.warning(
                ("not attested now", caller.credentials.uid), f"{caller} could not be attested now: {error}"
            )
            raise GRPCError(Status.UNAVAILABLE, "the agent can't look at its caller now") from error
        except AccessError as error:
            self._log.warning(
                ("not attested", caller.credentials.uid),
                f"{caller} could not be attested, and so gets nothing: {error}",
            )
            raise GRPCError(Status.PERMISSION_DENIED, _NO_IDENTITY) from error

    def judge(self, caller: Caller, selectors: Set[Selector]) -> View:
        """What a caller with these selectors gets. Raises GRPCError as ``view``."""
        waiting = self.identities.waiting_for
        if waiting:
            raise GRPCError(Status.UNAVAILABLE, f"the agent waits for {waiting}")
        view = self.identities.view(selectors)
        if not view.entries:
            self._explain(caller, frozenset(selectors))
            raise GRPCError(Status.PERMISSION_DENIED, _NO_IDENTITY)
        return view

    def _explain(self, caller: Caller, selectors: frozenset[Selector]) -> None:
        """Once as long as no entry changes: it costs with all entries, and whoever is denied may ask without end."""
        entries = self.identities.cache.entries
        if self._explained.get(selectors) == entries.version:
            log.debug("%s has no identity", caller)
            return
        self._explained.pop(selectors, None)
        self._explained[selectors] = entries.version
        while len(self._explained) > _MOST_EXPLAINED:
            del self._explained[next(iter(self._explained))]
        log.warning("%s has no identity: %s", caller, self._why(selectors))

    def _why(self, selectors: Set[Selector]) -> str:
        has = f"no entry matches its selectors {', '.join(sorted(map(str, selectors))) or '(none)'}"
        near = nearest(self.identities.cache.entries, selectors)
        return f"{has}; the nearest is {near[0]}" if near else f"{has}, and none comes near"
