"""Which entries a workload matches, in which order, and its near misses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meshtls.agent.entries import EntrySet, nearest
from tests.support.agent import entry, selectors

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BY_UID = entry("/web", "unix:uid:1000")
BY_BOTH = entry("/web-tool", "unix:uid:1000", "unix:path:/bin/tool")
OTHER = entry("/db", "unix:uid:70")
ALL = (BY_UID, BY_BOTH, OTHER)


@pytest.mark.parametrize(
    ("has", "paths"),
    [
        (("unix:uid:1000",), ["/web"]),
        (("unix:uid:1000", "unix:gid:1000"), ["/web"]),
        (("unix:uid:1000", "unix:path:/bin/tool"), ["/web", "/web-tool"]),
        (("unix:path:/bin/tool",), []),
        (("unix:uid:70", "unix:path:/bin/tool"), ["/db"]),
        ((), []),
    ],
)
def test_a_workload_matches_every_entry_whose_selectors_it_has_oldest_first(
    has: tuple[str, ...], paths: list[str]
) -> None:
    assert [one.spiffe_id.path for one in EntrySet(ALL).matching(selectors(*has), NOW)] == paths


def test_the_order_does_not_depend_on_the_order_of_arrival() -> None:
    same = [replace(entry(path, "unix:uid:1"), created=n) for n, path in enumerate(("/b", "/a", "/c"))]
    orders = [
        EntrySet(same).matching(selectors("unix:uid:1"), NOW),
        EntrySet(same[::-1]).matching(selectors("unix:uid:1"), NOW),
    ]
    assert orders[0] == orders[1]
    assert [one.spiffe_id.path for one in orders[0]] == ["/b", "/a", "/c"]


def test_the_default_stays_when_a_new_entry_comes_however_specific_it_is() -> None:
    old = replace(entry("/web", "unix:uid:1"), created=7)
    new = replace(entry("/a", "unix:uid:1", "unix:gid:1"), created=8)
    workload = selectors("unix:uid:1", "unix:gid:1")
    entries = EntrySet([old])
    assert entries.matching(workload, NOW) == (old,)
    entries.put(new)
    assert entries.matching(workload, NOW) == (old, new)
    entries.put(replace(old, hint="changed"))
    assert [one.spiffe_id.path for one in entries.matching(workload, NOW)] == ["/web", "/a"]


@pytest.mark.parametrize(("seconds", "served"), [(1, 1), (0, 0), (-1, 0)])
def test_an_entry_is_served_until_it_expires(seconds: int, served: int) -> None:
    ends = entry("/web", "unix:uid:1000", expires_at=NOW + timedelta(seconds=seconds))
    assert len(EntrySet([ends]).matching(selectors("unix:uid:1000"), NOW)) == served


def test_a_replaced_or_removed_entry_is_not_found_by_its_old_selectors() -> None:
    entries = EntrySet(ALL)
    assert entries.put(entry("/web", "unix:uid:2000")) == BY_UID
    assert entries.remove("/db") == OTHER
    assert entries.remove("/db") is None
    assert entries.matching(selectors("unix:uid:1000"), NOW) == ()
    assert entries.matching(selectors("unix:uid:70"), NOW) == ()
    assert [one.id for one in entries.matching(selectors("unix:uid:2000"), NOW)] == ["/web"]
    assert repr(entries) == "<EntrySet of 2>"


@pytest.mark.parametrize(
    ("has", "words"),
    [
        (
            ("unix:path:/bin/tool", "unix:uid:7"),
            ["spiffe://example.org/web-tool, missing unix:uid:1000"],
        ),
        (("unix:uid:1000",), ["spiffe://example.org/web-tool, missing unix:path:/bin/tool"]),
        (("unix:uid:7",), []),
        (("unix:uid:1000", "unix:path:/bin/tool"), []),
    ],
)
def test_the_nearest_miss_shares_a_selector_and_lacks_the_fewest(has: tuple[str, ...], words: list[str]) -> None:
    assert [str(miss) for miss in nearest(ALL, selectors(*has))] == words


def test_near_misses_come_with_the_smallest_first() -> None:
    far = entry("/far", "unix:uid:1", "unix:gid:1", "unix:path:/x")
    near = entry("/near", "unix:uid:1", "unix:gid:1")
    misses = nearest([far, near], selectors("unix:uid:1"), most=5)
    assert [(miss.entry.id, len(miss.missing)) for miss in misses] == [("/near", 1), ("/far", 2)]
    assert len(nearest([far, near], selectors("unix:uid:1"))) == 1
