"""Which entries a process gets, and why not the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meshtls.cli.explanation import explain_process
from tests.support.agent import entry, selectors

NOW = datetime(2030, 1, 1, tzinfo=UTC)
APP = selectors("unix:uid:1000", "unix:path:/bin/app")


def test_what_matches_comes_most_specific_first_and_near_misses_nearest_first() -> None:
    entries = [
        entry("/uid", "unix:uid:1000"),
        entry("/both", "unix:uid:1000", "unix:path:/bin/app"),
        entry("/two-short", "unix:uid:1000", "unix:gid:5", "unix:path:/bin/other"),
        entry("/one-short", "unix:uid:1000", "unix:gid:5"),
        entry("/stranger", "unix:uid:7"),
    ]

    found = explain_process(APP, entries, None, NOW)

    assert [one.id for one in found.matching] == ["/both", "/uid"]
    assert [(one.entry.id, list(map(str, one.missing))) for one in found.near] == [
        ("/one-short", ["unix:gid:5"]),
        ("/two-short", ["unix:gid:5", "unix:path:/bin/other"]),
    ]
    assert found.selectors == tuple(sorted(APP))


def test_of_several_with_one_hint_all_but_the_first_are_hidden() -> None:
    entries = [
        entry(path, "unix:uid:1000", hint=hint) for path, hint in (("/a", "x"), ("/b", "x"), ("/c", ""), ("/d", ""))
    ]

    found = explain_process(APP, entries, None, NOW)

    assert [one.id for one in found.matching] == ["/a", "/b", "/c", "/d"]
    assert [one.id for one in found.hidden] == ["/b"]


def test_an_entry_whose_time_is_over_matches_no_more_and_is_told() -> None:
    entries = [
        entry("/now", "unix:uid:1000", expires_at=NOW + timedelta(seconds=1)),
        entry("/over", "unix:uid:1000", expires_at=NOW),
        entry("/over-and-not-ours", "unix:uid:1", expires_at=NOW),
    ]

    found = explain_process(APP, entries, None, NOW)

    assert [one.id for one in found.matching] == ["/now"]
    assert [one.id for one in found.expired] == ["/over"]


def test_an_entry_that_the_agent_does_not_serve_matches_not_and_is_told() -> None:
    entries = [entry("/here", "unix:uid:1000"), entry("/there", "unix:uid:1000"), entry("/other", "unix:uid:1")]

    found = explain_process(APP, entries, {"/here"}, NOW)

    assert [one.id for one in found.matching] == ["/here"]
    assert [one.id for one in found.elsewhere] == ["/there"]
    assert found.near == ()
