"""Which entries a process gets, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from meshtls.cli.explanation import Explanation, explain_process
from meshtls.registration import AgentRecord, Entry
from meshtls.server.reach import Reach
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.agent import entry, selectors

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DOMAIN = TrustDomain("example.org")
AGENT = entry("/any").parent_id
OTHER = SpiffeId(DOMAIN, "/meshtls/agent/join_token/other")
APP = selectors("unix:uid:1000", "unix:path:/bin/app")


def attested(spiffe_id: SpiffeId, *, banned: bool = False, ends: timedelta = timedelta(hours=1)) -> AgentRecord:
    return AgentRecord(
        spiffe_id=spiffe_id, type="join_token", serials=("1",), not_after=NOW + ends, attested_at=NOW, banned=banned
    )


def explained(
    entries: Sequence[Entry], agent: SpiffeId | None = None, agents: Sequence[AgentRecord] = ()
) -> Explanation:
    reach = Reach(DOMAIN, entries, agents or [attested(AGENT), attested(OTHER)], NOW)
    return explain_process(APP, entries, reach, agent, NOW)


def test_matches_are_sorted_by_specificity_and_near_misses_by_distance() -> None:
    entries = [
        entry("/uid", "unix:uid:1000"),
        entry("/both", "unix:uid:1000", "unix:path:/bin/app"),
        entry("/two-short", "unix:uid:1000", "unix:gid:5", "unix:path:/bin/other"),
        entry("/one-short", "unix:uid:1000", "unix:gid:5"),
        entry("/stranger", "unix:uid:7"),
    ]

    found = explained(entries)

    assert [one.id for one in found.matching] == ["/both", "/uid"]
    assert [(one.entry.id, list(map(str, one.missing))) for one in found.near] == [
        ("/one-short", ["unix:gid:5"]),
        ("/two-short", ["unix:gid:5", "unix:path:/bin/other"]),
    ]
    assert found.selectors == tuple(sorted(APP))


def test_all_but_the_first_of_several_svids_with_one_hint_are_hidden() -> None:
    entries = [
        entry(path, "unix:uid:1000", hint=hint) for path, hint in (("/a", "x"), ("/b", "x"), ("/c", ""), ("/d", ""))
    ]

    found = explained(entries)

    assert [one.id for one in found.matching] == ["/a", "/b", "/c", "/d"]
    assert [one.id for one in found.hidden] == ["/b"]


def test_an_expired_entry_does_not_match_and_is_named() -> None:
    entries = [
        entry("/now", "unix:uid:1000", expires_at=NOW + timedelta(seconds=1)),
        entry("/over", "unix:uid:1000", expires_at=NOW),
        entry("/over-and-not-ours", "unix:uid:1", expires_at=NOW),
    ]

    found = explained(entries)

    assert [one.id for one in found.matching] == ["/now"]
    assert [one.id for one in found.expired] == ["/over"]


def test_an_entry_that_another_agent_serves_does_not_match() -> None:
    there = replace(entry("/there", "unix:uid:1000"), parent_id=OTHER)
    entries = [entry("/here", "unix:uid:1000"), there, replace(entry("/other", "unix:uid:1"), parent_id=OTHER)]

    found = explained(entries, AGENT)

    assert [one.id for one in found.matching] == ["/here"]
    assert [one.id for one in found.elsewhere] == ["/there"]
    assert found.served_by["/there"] == (OTHER,)
    assert (found.near, found.unserved) == ((), ())
    assert [one.id for one in explained(entries).matching] == ["/here", "/there"]


def test_an_entry_that_no_agent_serves_does_not_match_and_says_why() -> None:
    lost = replace(entry("/lost", "unix:uid:1000"), parent_id=SpiffeId(DOMAIN, "/nowhere"))
    lost_near = replace(entry("/lost-near", "unix:uid:1000", "unix:gid:5"), parent_id=SpiffeId(DOMAIN, "/nowhere"))

    found = explained([lost, lost_near, entry("/here", "unix:uid:1000")])

    assert [one.id for one in found.matching] == ["/here"]
    assert [one.id for one in found.unserved] == ["/lost"]
    assert [one.entry.id for one in found.near] == ["/lost-near"]
    reason = "no agent and no entry has the ID of its parent spiffe://example.org/nowhere"
    assert found.obstacles == {"/lost": reason, "/lost-near": reason}
