"""The cache's content, the watchers that a change concerns, and when the next SVID is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meshtls.agent.cache import SvidCache
from meshtls.agent.upstream import Update
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.identity.schedule import Schedule
from meshtls.observe.readiness import Readiness
from meshtls.registration import Entry
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import X509Svid
from tests.support.agent import OURS, entry, selectors
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)
AUTHORITY = make_authority(str(OURS), ManualClock(NOW))
PARTNER = make_authority("partner.org", ManualClock(NOW)).bundle
OTHER = TrustBundle(TrustDomain("other.org"))
BUNDLES = BundleSet([AUTHORITY.bundle, PARTNER])
WEB = entry("/web", "unix:uid:1", federates_with=["partner.org"])
DB = entry("/db", "unix:uid:2")
SIDE = entry("/side", "unix:uid:1", "unix:gid:9")
SVIDS = {one.id: svid_for(AUTHORITY, one.spiffe_id) for one in (WEB, DB, SIDE)}
HALF = NOW + timedelta(minutes=30)


def filled(*entries: Entry, bundles: BundleSet = BUNDLES) -> SvidCache:
    """A cache with these entries and an SVID for each."""
    cache = SvidCache(OURS)
    cache.apply(Update(whole=True, entries=entries, bundles=bundles))
    for one in entries:
        cache.signed(one, SVIDS[one.id], NOW, 0.0)
    return cache


@pytest.mark.parametrize(
    ("change", "heard_by"),
    [
        (lambda cache: cache.apply(Update(entries=(entry("/new", "unix:uid:1"),))), {"web", "both"}),
        (lambda cache: cache.apply(Update(entries=(entry("/new", "unix:uid:7"),))), set()),
        (lambda cache: cache.apply(Update(entries=(WEB,))), set()),
        (lambda cache: cache.apply(Update(entries=(entry("/web", "unix:uid:2"),))), {"web", "both", "db"}),
        (lambda cache: cache.apply(Update(removed=("/db",))), {"db"}),
        (lambda cache: cache.apply(Update(removed=("/side",))), {"both"}),
        (lambda cache: cache.apply(Update(removed=("/none",))), set()),
        (lambda cache: cache.apply(Update(whole=True, entries=(WEB, SIDE))), {"db"}),
        (lambda cache: cache.apply(Update(whole=True, entries=(WEB, DB, SIDE), bundles=BUNDLES)), set()),
        (lambda cache: cache.signed(SIDE, SVIDS["/side"], NOW, 0.0), {"both"}),
        (lambda cache: cache.signed(WEB, SVIDS["/web"], NOW, 0.0), {"web", "both"}),
        (lambda cache: cache.signed(WEB, SVIDS["/db"], NOW, 0.0), set()),
        (lambda cache: cache.failed(DB, NOW, 0.0, "no"), {"db"}),
        (lambda cache: cache.failed(entry("/none"), NOW, 0.0, "no"), set()),
        (lambda cache: cache.apply(Update(bundles=BundleSet([AUTHORITY.bundle]))), {"web", "both"}),
        (lambda cache: cache.apply(Update(bundles=BundleSet([AUTHORITY.bundle, PARTNER, OTHER]))), set()),
        (
            lambda cache: cache.apply(Update(bundles=BundleSet([make_authority(str(OURS)).bundle, PARTNER]))),
            {"web", "db", "both", "nobody"},
        ),
        (lambda cache: cache.expire(NOW), set()),
    ],
    ids=[
        "a new entry",
        "a new entry for others",
        "the same entry again",
        "another selector",
        "an entry removed",
        "a more specific entry removed",
        "an unknown entry removed",
        "all there is, one less",
        "all there is, as it was",
        "a new SVID of a more specific entry",
        "a new SVID",
        "an SVID of another ID",
        "a failed signing",
        "a failed signing of what is gone",
        "a federated bundle gone",
        "a bundle that nobody federates with",
        "our own bundle",
        "nothing expired",
    ],
)
def test_only_subscribers_whose_view_may_change_are_notified(
    change: Callable[[SvidCache], set[int]], heard_by: set[str]
) -> None:
    cache = filled(WEB, DB, SIDE)
    names = {
        cache.watchers.add(selectors("unix:uid:1")): "web",
        cache.watchers.add(selectors("unix:uid:1", "unix:gid:9")): "both",
        cache.watchers.add(selectors("unix:uid:2")): "db",
        cache.watchers.add(selectors("unix:uid:3")): "nobody",
    }
    assert {names[number] for number in change(cache)} == heard_by


def test_a_refused_agent_serves_nobody_until_its_next_full_sync() -> None:
    cache = filled(WEB, DB)
    numbers = {cache.watchers.add(selectors("unix:uid:1")), cache.watchers.add(selectors("unix:uid:3"))}
    assert cache.apply(Update(refused="it is banned")) == numbers
    assert (cache.synced, cache.refused) == (False, "it is banned")
    assert not cache.view(selectors("unix:uid:1"), NOW).entries
    assert cache.apply(Update(whole=True, entries=(WEB,))) == numbers
    assert (cache.synced, cache.refused) == (True, "")
    assert cache.due(NOW) == (WEB,)


@pytest.mark.parametrize(("asked", "due"), [(DB, False), (entry("/db", "unix:uid:2", ttl=60), True)])
def test_an_entry_changed_during_signing_does_not_inherit_the_failure_of_the_old_one(asked: Entry, due: bool) -> None:
    cache = SvidCache(OURS)
    cache.apply(Update(whole=True, entries=(DB,), bundles=BUNDLES))
    cache.failed(asked, NOW, 0.0, "it was changed")
    assert cache.due(NOW) == ((DB,) if due else ())


def test_entries_are_due_in_order_awaited_then_new_then_soonest_to_expire() -> None:
    new, waited, late, soon = (
        entry(f"/{name}", f"unix:uid:{n}") for n, name in enumerate(("new", "waited", "late", "soon"))
    )
    cache = SvidCache(OURS)
    cache.apply(Update(whole=True, entries=(late, soon, new, waited), bundles=BUNDLES))
    for one, ttl in ((late, 2), (soon, 1)):
        svid = svid_for(AUTHORITY, one.spiffe_id, ttl=timedelta(hours=ttl))
        cache.signed(one, svid, NOW, 0.0)
    cache.watchers.add(selectors("unix:uid:1"))
    assert cache.due(NOW + timedelta(hours=1)) == (waited, new, soon, late)


@pytest.mark.parametrize(("seconds", "due"), [(10, False), (11, True)])
def test_an_svid_is_due_when_the_clock_was_set_back_before_its_time(seconds: int, due: bool) -> None:
    cache = filled(WEB)
    assert cache.due(NOW - timedelta(seconds=seconds)) == ((WEB,) if due else ())


def test_the_first_update_from_the_upstream_concerns_every_watcher() -> None:
    cache = SvidCache(OURS)
    numbers = {cache.watchers.add(selectors("unix:uid:1")), cache.watchers.add(selectors("unix:uid:3"))}
    assert not cache.synced
    assert cache.apply(Update(whole=True, entries=(WEB,), bundles=BUNDLES)) == numbers
    assert cache.synced


def test_a_watcher_that_left_or_changed_gets_no_updates_of_its_old_view() -> None:
    cache = filled(WEB, DB)
    left, changed = cache.watchers.add(selectors("unix:uid:1")), cache.watchers.add(selectors("unix:uid:1"))
    cache.watchers.remove(left)
    cache.watchers.change(changed, selectors("unix:uid:2"))
    assert cache.signed(WEB, SVIDS["/web"], NOW, 0.0) == set()
    assert cache.signed(DB, SVIDS["/db"], NOW, 0.0) == {changed}
    assert repr(cache.watchers) == "<Watchers 1 with 1 selectors>"


def test_a_view_holds_only_the_callers_svids_with_hints_and_its_entries_bundles() -> None:
    hinted = replace(SIDE, hint="internal")
    cache = filled(WEB, DB, hinted)
    view = cache.view(selectors("unix:uid:1", "unix:gid:9"), NOW)
    assert [(str(svid.spiffe_id), svid.hint) for svid in view.svids] == [
        ("spiffe://example.org/side", "internal"),
        ("spiffe://example.org/web", ""),
    ]
    assert view.bundles == BUNDLES
    assert cache.view(selectors("unix:uid:2"), NOW).bundles == BundleSet([AUTHORITY.bundle])
    nothing = cache.view(selectors("unix:uid:3"), NOW)
    assert (nothing.entries, nothing.svids, nothing.bundles) == ((), (), BundleSet())


def test_an_svid_is_presented_until_its_last_second_and_not_after() -> None:
    cache, end = filled(DB), SVIDS["/db"].not_after
    assert len(cache.view(selectors("unix:uid:2"), end).svids) == 1
    later = cache.view(selectors("unix:uid:2"), end + timedelta(seconds=1))
    assert (len(later.entries), later.svids, later.pending) == (1, (), 0)


def test_an_entry_whose_id_changes_never_serves_the_old_id() -> None:
    cache = filled(WEB)
    cache.apply(Update(entries=(replace(DB, id="/web", selectors=WEB.selectors),)))
    view = cache.view(selectors("unix:uid:1"), NOW)
    assert (view.svids, view.pending) == ((), 1)
    assert cache.signed(WEB, SVIDS["/web"], NOW, 0.0) == set()
    assert cache.svid_of("/web") is None


@pytest.mark.parametrize(
    ("changed", "due"),
    [
        (WEB, False),
        (replace(WEB, hint="x"), False),
        (replace(WEB, selectors=DB.selectors), False),
        (replace(WEB, x509_svid_ttl=60), True),
        (replace(WEB, dns_names=("web.example.org",)), True),
    ],
    ids=["unchanged", "hint", "selectors", "ttl", "dns names"],
)
def test_a_change_of_a_certificate_field_renews_the_svid_and_the_old_one_is_served_meanwhile(
    changed: Entry, due: bool
) -> None:
    cache = filled(WEB)
    cache.apply(Update(entries=(changed,)))
    assert cache.due(NOW) == ((changed,) if due else ())
    assert cache.svid_of("/web") == SVIDS["/web"]


def test_unsigned_overdue_and_retryable_entries_are_due() -> None:
    cache = filled(WEB)
    assert (cache.due(NOW), cache.next_event(NOW)) == ((), HALF)
    assert cache.due(HALF) == (WEB,)
    cache.apply(Update(entries=(DB,)))
    assert (cache.due(NOW), cache.next_event(NOW), cache.untried) == ((DB,), NOW, 1)
    retry = NOW + timedelta(seconds=1)
    cache.failed(DB, NOW, 0.0, "the server is down")
    assert (cache.due(NOW), cache.next_event(NOW), cache.untried) == ((), retry, 0)
    assert cache.view(selectors("unix:uid:2"), NOW).trouble == "the server is down"
    assert cache.due(retry) == (DB,)
    cache.failed(DB, retry, 0.0, "the server is down")
    failing = cache.schedule_of("/db")
    assert failing == Schedule(
        retry + timedelta(seconds=2), failures=2, failing_since=NOW, last_error="the server is down"
    )
    cache.signed(DB, SVIDS["/db"], NOW, 0.0)
    assert cache.schedule_of("/db") == Schedule.of(SVIDS["/db"], NOW, 0.0)
    assert cache.view(selectors("unix:uid:2"), NOW).trouble is None


LATER = NOW + timedelta(minutes=50)
END = NOW + timedelta(hours=1)
WEB_LATE = "SVID spiffe://example.org/web expires in 600 s"
NO_SERVER = "renewal failing since 2030-01-01T00:30:00Z: no server"


@pytest.mark.parametrize(
    ("failing", "refused", "now", "wanted"),
    [
        ((), False, NOW, Readiness(True)),
        ((WEB,), False, LATER, Readiness(True, f"{WEB_LATE}, {NO_SERVER} (2 of 2 entries)")),
        ((), False, LATER, Readiness(True, f"{WEB_LATE}, and no newer one was received (2 of 2 entries)")),
        (
            (WEB, DB),
            False,
            END + timedelta(seconds=5),
            Readiness(
                False, f"a valid SVID for 2 of 2 entries: SVID spiffe://example.org/web expired 5 s ago, {NO_SERVER}"
            ),
        ),
        (
            (WEB, DB),
            True,
            END + timedelta(seconds=5),
            Readiness(
                False, f"a valid SVID for 2 of 2 entries: SVID spiffe://example.org/web expired 5 s ago, {NO_SERVER}"
            ),
        ),
    ],
)
def test_readiness_needs_a_valid_svid_for_each_entry_and_says_for_how_long(
    failing: tuple[Entry, ...], refused: bool, now: datetime, wanted: Readiness
) -> None:
    cache = filled(WEB, DB)
    for one in failing:
        cache.failed(one, HALF, 0.0, "no server", refused=refused)
    assert cache.readiness(now) == wanted


@pytest.mark.parametrize(
    ("refused", "wanted"),
    [
        (True, Readiness(True)),
        (
            False,
            Readiness(
                False,
                "a valid SVID for 1 of 2 entries: SVID spiffe://example.org/db could not be signed since"
                " 2030-01-01T00:00:00Z: no",
            ),
        ),
    ],
)
def test_an_entry_refused_for_its_content_does_not_affect_readiness_for_others(
    refused: bool, wanted: Readiness
) -> None:
    cache = filled(WEB)
    cache.apply(Update(entries=(DB,)))
    assert cache.readiness(NOW) == Readiness(False, "1 SVID to be signed")
    cache.failed(DB, NOW, 0.0, "no", refused=refused)
    assert cache.readiness(NOW) == wanted


def test_an_entrys_expiry_is_an_event_that_removes_it_and_its_svid() -> None:
    ends = replace(WEB, expires_at=NOW + timedelta(seconds=10))
    cache = filled(ends)
    number = cache.watchers.add(selectors("unix:uid:1"))
    assert cache.next_event(NOW) == ends.expires_at
    assert cache.expire(NOW) == set()
    assert cache.expire(NOW + timedelta(seconds=10)) == {number}
    assert (len(cache.entries), cache.svid_of("/web"), cache.next_event(NOW)) == (0, None, None)


def test_no_key_shows_in_a_repr() -> None:
    svid: X509Svid = SVIDS["/web"]
    cache = filled(WEB)
    assert repr(cache) == "<SvidCache example.org [1 entries, 1 SVIDs, 0 watchers]>"
    assert repr(SvidCache(OURS)) == "<SvidCache example.org [not synced]>"
    assert "private" not in repr(cache.view(selectors("unix:uid:1"), NOW)).lower()
    assert svid.serial not in repr(cache)
