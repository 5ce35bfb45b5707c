"""The views of the agent's callers: how often a caller is attested, its errors, and the log lines about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager

import pytest
from grpclib import GRPCError, Status

from meshtls.agent.attest.attestor import Attestor, Caller, hash_always
from meshtls.agent.caller_views import CallerViews, Watch
from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.identities import Identities
from meshtls.agent.upstream import EntryCsr, SigningResult, Update
from meshtls.errors import AccessError, LocalIdentityError, MeshtlsError
from meshtls.registration import Entry, Selector
from meshtls.rpc.peer_credentials import Credentials
from meshtls.workload.background import in_background
from tests.support.agent import SELF, entry, eventually, selectors
from tests.support.authority import make_authority
from tests.support.clock import ManualClock

CALLER = Caller(Credentials(0, 7, 8))


class CountingAttestor(Attestor):
    """Returns the given selectors for every caller, or raises the given error; counts the calls."""

    def __init__(self, said: frozenset[Selector] | MeshtlsError) -> None:
        super().__init__()
        self.said = said
        self.asked = 0

    async def attest(
        self, caller: Caller, digest_wanted: Callable[[Set[Selector]], bool] = hash_always
    ) -> frozenset[Selector]:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.said, MeshtlsError):
            raise self.said
        return self.said


class HeldUpstream(EmbeddedUpstream):
    """Signs nothing until ``signing`` is set."""

    def __init__(self, clock: ManualClock, entries: Sequence[Entry]) -> None:
        super().__init__(make_authority("example.org", clock), clock, entries)
        self.signing = asyncio.Event()

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        await self.signing.wait()
        return await super().sign_x509(requests)


@asynccontextmanager
async def caller_views(
    *entries: Entry, attestor: Attestor | None = None
) -> AsyncIterator[tuple[CallerViews, HeldUpstream]]:
    """Caller views with known entries, none of which is signed yet."""
    clock = ManualClock()
    upstream = HeldUpstream(clock, entries)
    identities = Identities(upstream, clock, lambda: 0.0)
    async with in_background(identities.run(), "identities"):
        await eventually(lambda: identities.waiting_for is None)
        yield CallerViews(identities, attestor or CountingAttestor(selectors(SELF))), upstream


async def test_a_caller_waiting_for_its_svid_is_attested_again_only_after_a_change() -> None:
    attestor = CountingAttestor(selectors(SELF))
    async with caller_views(entry("/web"), attestor=attestor) as (views, upstream):
        with views.identities.watching() as watcher:
            waiting = asyncio.create_task(Watch(views, CALLER, watcher).settled())
            for _ in range(100):
                await asyncio.sleep(0)
            assert (attestor.asked, waiting.done()) == (1, False)
            upstream.signing.set()
            assert [str(svid.spiffe_id) for svid in (await waiting).svids] == ["spiffe://example.org/web"]
            assert attestor.asked == 2


@pytest.mark.parametrize(
    ("error", "status", "message", "line"),
    [
        (
            LocalIdentityError("no thread"),
            Status.UNAVAILABLE,
            "the agent cannot attest its caller now",
            f"{CALLER} could not be attested now: no thread",
        ),
        (
            AccessError("it has ended"),
            Status.PERMISSION_DENIED,
            "no identity issued",
            f"{CALLER} could not be attested and gets nothing: it has ended",
        ),
    ],
)
async def test_a_caller_that_cannot_be_attested_is_turned_away_and_the_log_says_why_once(
    error: MeshtlsError, status: Status, message: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    attestor = CountingAttestor(error)
    async with caller_views(entry("/web"), attestor=attestor) as (views, _):
        for _ in range(3):
            with pytest.raises(GRPCError) as raised:
                await views.attest(CALLER)
            assert (raised.value.status, raised.value.message) == (status, message)
        assert caplog.messages == [line]
        attestor.said = selectors(SELF)
        assert await views.attest(CALLER) == selectors(SELF)


async def test_callers_before_the_first_sync_are_told_that_entries_are_awaited() -> None:
    clock = ManualClock()
    upstream = HeldUpstream(clock, [entry("/web")])
    identities = Identities(upstream, clock, lambda: 0.0)
    views = CallerViews(identities, CountingAttestor(selectors(SELF)))
    with pytest.raises(GRPCError) as raised:
        views.view_for(CALLER, selectors(SELF))
    assert (raised.value.status, raised.value.message) == (
        Status.UNAVAILABLE,
        "the agent is waiting for the entries: the CA has not sent them yet",
    )
    async with in_background(identities.run(), "identities"):
        await eventually(lambda: identities.waiting_for is None)
        assert [one.id for one in views.view_for(CALLER, selectors(SELF)).entries] == ["/web"]


def turned_away(views: CallerViews, number: int, log: pytest.LogCaptureFixture) -> bool:
    """Whether the log explains the denial of a caller with unique selectors."""
    log.clear()
    with pytest.raises(GRPCError) as raised:
        views.view_for(CALLER, selectors(f"unix:uid:{number}"))
    assert (raised.value.status, raised.value.message) == (Status.PERMISSION_DENIED, "no identity issued")
    return bool([record for record in log.records if record.levelno >= logging.WARNING])


@pytest.mark.parametrize(("others", "remembered"), [(1023, True), (1024, False)])
async def test_the_log_remembers_1024_kinds_of_denied_callers(
    others: int, remembered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with caller_views(entry("/web", "unix:uid:4242424")) as (views, _):
        assert turned_away(views, 1, caplog)
        assert not turned_away(views, 1, caplog)
        for number in range(2, 2 + others):
            assert turned_away(views, number, caplog)
        assert turned_away(views, 1, caplog) is not remembered


async def test_the_least_recently_logged_kind_of_caller_is_forgotten_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with caller_views(entry("/web", "unix:uid:4242424")) as (views, upstream):
        for number in range(1, 1025):
            assert turned_away(views, number, caplog)
        before = views.identities.cache.entries.version
        upstream.put_entry(entry("/db", "unix:uid:4242425"))
        await eventually(lambda: views.identities.cache.entries.version != before)
        assert turned_away(views, 1, caplog)
        assert turned_away(views, 5000, caplog)
        assert not turned_away(views, 1, caplog)


async def test_the_log_distinguishes_a_caller_without_a_near_miss(caplog: pytest.LogCaptureFixture) -> None:
    async with caller_views(entry("/web", "unix:uid:1", "unix:path:/bin/web")) as (views, _):
        assert turned_away(views, 2, caplog)
        assert caplog.messages == [
            f"{CALLER} has no identity: no registration entry matches its selectors unix:uid:2; no near miss"
        ]
        assert turned_away(views, 1, caplog)
        assert caplog.messages == [
            f"{CALLER} has no identity: no registration entry matches its selectors unix:uid:1;"
            " near miss: spiffe://example.org/web, missing unix:path:/bin/web"
        ]


async def test_a_refused_agent_denies_its_callers_with_the_reason_and_one_that_waits_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with caller_views(entry("/web")) as (views, _):
        found = [str(one.spiffe_id) for one in views.view_for(CALLER, selectors(SELF)).entries]
        assert found == ["spiffe://example.org/web"]
        views.identities.cache.apply(Update(refused="agent spiffe://example.org/node is banned"))
        with pytest.raises(GRPCError) as caught:
            views.view_for(CALLER, selectors(SELF))
        why = "the server refuses this agent: agent spiffe://example.org/node is banned"
        assert (caught.value.status, caught.value.message) == (Status.PERMISSION_DENIED, f"no identity issued: {why}")
        assert caplog.messages == [f"{CALLER} gets no identity: {why}"]
        views.identities.cache.apply(Update(whole=True, entries=(entry("/web"),)))
        assert views.view_for(CALLER, selectors(SELF)).entries == (entry("/web"),)
    waiting = Identities(HeldUpstream(ManualClock(), ()), ManualClock(), lambda: 0.0)
    with pytest.raises(GRPCError) as caught:
        CallerViews(waiting, CountingAttestor(selectors(SELF))).view_for(CALLER, selectors(SELF))
    assert caught.value.status is Status.UNAVAILABLE
