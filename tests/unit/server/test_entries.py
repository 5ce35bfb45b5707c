"""Reachability of entries, and the agents that a change affects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshtls.errors import RequestError
from meshtls.registration import Entry, Selector, agent_id, server_id
from meshtls.server.entries import EntryIndex, Node
from meshtls.server.store.changes import Change, ChangeKind
from meshtls.server.syncing import Update, full_update, update_for
from meshtls.spiffeid import SpiffeId, TrustDomain

TD = TrustDomain("example.org")
AGENT = agent_id(TD, "join_token", "n1")
OTHER = agent_id(TD, "join_token", "n2")
NODE, OTHER_NODE = Node(AGENT), Node(OTHER)
CLUSTER = SpiffeId(TD, "/cluster")


def entry(key: str, path: str, parent: SpiffeId = AGENT, *selectors: str) -> Entry:
    parsed = tuple(map(Selector.parse, selectors or ("unix:uid:1",)))
    return Entry(id=key, spiffe_id=SpiffeId(TD, path), parent_id=parent, selectors=parsed)


def index_of(*entries: Entry) -> EntryIndex:
    return EntryIndex(TD, entries)


def changed(one: Entry, revision: int = 1) -> Change:
    return Change(revision, ChangeKind.ENTRY, one.id, str(one.spiffe_id))


ALIAS = entry("alias", "/cluster", server_id(TD), "x509pop:subject:cn:n1")
ALIASED = Node(AGENT, frozenset(ALIAS.selectors))


def test_an_entry_below_an_agent_is_that_agents_alone() -> None:
    index = index_of(entry("e", "/web"))
    assert list(index.reachable(NODE)) == ["e"]
    assert list(index.reachable(OTHER_NODE)) == []
    assert index.is_reachable(entry("e", "/web"), NODE)
    assert not index.is_reachable(entry("e", "/web"), OTHER_NODE)


def test_an_entry_is_reached_through_the_entries_between() -> None:
    middle, leaf = entry("m", "/cluster"), entry("l", "/web", CLUSTER)
    index = index_of(middle, leaf)
    assert set(index.reachable(NODE)) == {"m", "l"}
    assert index.is_reachable(leaf, NODE)
    index.remove("m")
    assert set(index.reachable(NODE)) == set()
    assert not index.is_reachable(leaf, NODE)


def test_an_alias_reaches_for_the_nodes_that_its_selectors_match() -> None:
    leaf = entry("l", "/web", CLUSTER)
    index = index_of(ALIAS, leaf)
    assert list(index.reachable(ALIASED)) == ["l"]
    assert index.is_reachable(leaf, ALIASED)
    assert list(index.reachable(NODE)) == []
    assert not index.is_reachable(leaf, NODE)


def test_a_cycle_of_parents_ends_the_search() -> None:
    one, two = entry("1", "/one", SpiffeId(TD, "/two")), entry("2", "/two", SpiffeId(TD, "/one"))
    index = index_of(one, two, entry("3", "/one"))
    assert set(index.reachable(NODE)) == {"1", "2", "3"}
    assert index.is_reachable(one, NODE)
    assert not index.is_reachable(one, OTHER_NODE)


def test_an_entry_that_is_put_twice_is_indexed_once_as_last_put() -> None:
    index = index_of(entry("e", "/web"))
    index.put(entry("e", "/web", OTHER))
    assert (len(index), list(index.reachable(NODE)), list(index.reachable(OTHER_NODE))) == (1, [], ["e"])
    index.remove("e")
    index.remove("e")
    assert (len(index), index.has_children(OTHER)) == (0, False)


def test_only_an_entry_marked_admin_makes_an_administrator() -> None:
    plain = entry("e", "/web")
    assert index_of(replace(plain, admin=True)).is_admin(plain.spiffe_id)
    assert not index_of(plain).is_admin(plain.spiffe_id)
    assert not index_of(replace(plain, admin=True)).is_admin(CLUSTER)


def test_a_change_affects_the_nodes_above_the_entry() -> None:
    index = index_of(entry("m", "/cluster"), ALIAS)
    third = agent_id(TD, "join_token", "n3")
    nodes = {AGENT: NODE, OTHER: OTHER_NODE, third: Node(third, frozenset(ALIAS.selectors))}
    assert index.affected(entry("e", "/web", OTHER), nodes) == {OTHER}
    assert index.affected(entry("e", "/web", SpiffeId(TD, "/elsewhere")), nodes) == set()
    assert index.affected(entry("e", "/web", CLUSTER), nodes) == {AGENT, third}, "by ID, and by the alias"
    assert index.affected(ALIAS, nodes) == {third}


def test_an_agent_is_sent_a_new_a_changed_and_a_removed_entry_and_nothing_else() -> None:
    web, other = entry("e", "/web"), entry("o", "/other", OTHER)
    index = index_of(web, other, entry("untouched", "/db"))
    assert update_for(index, NODE, [changed(web), changed(web, 2)]) == Update(False, (web,))
    assert update_for(index, NODE, [changed(other)]) == Update(False, (), ("o",))
    index.remove("e")
    assert update_for(index, NODE, [changed(web)]) == Update(False, (), ("e",))
    assert not update_for(index, NODE, [])


def test_a_change_of_an_entry_with_children_sends_everything() -> None:
    middle, leaf = entry("m", "/cluster"), entry("l", "/web", CLUSTER)
    index = index_of(middle, leaf)
    assert update_for(index, NODE, [changed(middle)]) == Update(True, (middle, leaf))
    index.remove("m")
    assert update_for(index, NODE, [changed(middle)]) == Update(True, ())


def test_an_agent_that_attested_again_is_sent_everything() -> None:
    web = entry("e", "/web")
    index = index_of(web)
    for who, told in ((AGENT, Update(True, (web,))), (OTHER, Update(False, ()))):
        assert update_for(index, NODE, [Change(3, ChangeKind.AGENT, str(who))]) == told
    assert full_update(index, NODE) == Update(True, (web,))


@pytest.mark.parametrize(
    ("has", "matches", "missing"),
    [
        (("unix:uid:1", "unix:gid:2", "unix:path:/x"), True, ()),
        (("unix:uid:1", "unix:gid:2"), True, ()),
        (("unix:uid:1",), False, ("unix:gid:2",)),
        ((), False, ("unix:gid:2", "unix:uid:1")),
    ],
)
def test_an_entry_matches_a_workload_that_has_all_its_selectors(
    has: tuple[str, ...], matches: bool, missing: tuple[str, ...]
) -> None:
    one = entry("e", "/web", AGENT, "unix:uid:1", "unix:gid:2")
    selectors = set(map(Selector.parse, has))
    assert one.matches(selectors) is matches
    assert tuple(map(str, one.missing(selectors))) == missing


GOOD = entry("e", "/web")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"spiffe_id": TD.id},
            "entry spiffe://example.org: wanted an ID with a path; the trust domain's own ID is no workload's",
        ),
        (
            {"spiffe_id": AGENT, "parent_id": OTHER},
            f"entry {AGENT}: IDs below /meshtls/ are reserved for the server and the agents; choose another",
        ),
        (
            {"parent_id": SpiffeId(TrustDomain("b.test"), "/x")},
            "entry spiffe://example.org/web: wanted a parent in the same trust domain, got spiffe://b.test/x",
        ),
        ({"parent_id": GOOD.spiffe_id}, "entry spiffe://example.org/web: an entry can't be its own parent"),
        (
            {"selectors": ()},
            "entry spiffe://example.org/web: wanted at least one selector;"
            " without any, every process would get this ID",
        ),
        (
            {"federates_with": (TD,)},
            "entry spiffe://example.org/web: federates_with is for other trust domains;"
            " a workload always gets the bundle of its own",
        ),
        (
            {"x509_svid_ttl": -1},
            "entry spiffe://example.org/web: x509_svid_ttl: wanted 0 (the server's default) to 315360000 seconds,"
            " got -1",
        ),
        (
            {"jwt_svid_ttl": 2**40},
            "entry spiffe://example.org/web: jwt_svid_ttl: wanted 0 (the server's default) to 315360000 seconds,"
            " got 1099511627776",
        ),
        ({"hint": "x" * 1025}, "entry spiffe://example.org/web: hint: wanted at most 1024 characters"),
        (
            {"dns_names": ("ok.test", "*.test")},
            "entry spiffe://example.org/web: DNS name '*.test': wanted labels of a-z, 0-9 and '-',"
            " at most 253 bytes, no wildcard",
        ),
    ],
)
def test_an_invalid_entry_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        replace(GOOD, **change)  # type: ignore[arg-type]  # each row is of its own fields' types
    assert str(refused.value) == message


@pytest.mark.parametrize("text", ["", "unix", "unix:", ":uid:1", "a:" + "x" * 1024])
def test_a_selector_needs_a_type_and_a_value(text: str) -> None:
    with pytest.raises(RequestError, match="wanted type:value, at most 1024 characters"):
        Selector.parse(text)
    assert str(Selector.parse("unix:uid:1")) == "unix:uid:1"
