"""Which callers' programs are hashed, and which watchers an entry with a digest concerns."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.agent.entries import EntrySet
from meshtls.agent.watchers import Watchers
from tests.support.agent import entry, selectors

D, E = f"unix:sha256:{'d' * 64}", f"unix:sha256:{'e' * 64}"


@pytest.mark.parametrize(
    ("wanted", "has", "asks"),
    [
        ((D, "unix:uid:1"), ("unix:uid:1",), True),
        ((D, "unix:uid:1"), ("unix:uid:1", "unix:gid:1"), True),
        ((D,), (), True),
        ((D, "unix:uid:1"), ("unix:uid:2",), False),
        ((D, "unix:uid:1", "unix:gid:1"), ("unix:uid:1",), False),
        (("unix:uid:1",), ("unix:uid:1",), False),
        (("docker:sha256:1", "unix:uid:1"), ("unix:uid:1",), False),
    ],
)
def test_a_digest_is_requested_only_when_every_other_selector_matches(
    wanted: tuple[str, ...], has: tuple[str, ...], asks: bool
) -> None:
    entries = EntrySet([entry("/a", *wanted), entry("/b", "unix:gid:7")])
    assert entries.digest_could_match(selectors(*has)) is asks
    entries.remove("/a")
    assert not entries.digest_could_match(selectors(*has))


def test_an_entry_that_drops_its_digest_selector_needs_no_digest() -> None:
    entries = EntrySet([entry("/a", D, "unix:uid:1")])
    entries.put(entry("/a", "unix:uid:1"))
    assert not entries.digest_could_match(selectors("unix:uid:1"))


def test_a_change_concerns_those_that_have_the_digest_or_were_never_hashed() -> None:
    watchers = Watchers()
    hashed = watchers.add(selectors(D, "unix:uid:1"))
    another = watchers.add(selectors(E, "unix:uid:1"))
    unhashed = watchers.add(selectors("unix:uid:1"))
    stranger = watchers.add(selectors("unix:uid:2"))
    asking = entry("/a", D, "unix:uid:1")
    assert watchers.concerned(asking) == {hashed, unhashed}
    assert watchers.concerned(entry("/b", D)) == {hashed, unhashed, stranger}
    assert watchers.concerned(entry("/c", "unix:uid:1")) == {hashed, another, unhashed}
    watchers.change(unhashed, selectors(E, "unix:uid:1"))
    watchers.remove(stranger)
    assert watchers.concerned(asking) == {hashed}
    assert watchers.concerned(entry("/b", D)) == {hashed}


FACTS = [D, E, "unix:uid:1", "unix:uid:2", "unix:gid:1"]


@given(
    st.lists(st.lists(st.sampled_from(FACTS), min_size=1, max_size=3, unique=True), max_size=6),
    st.sets(st.sampled_from(FACTS[2:])),
    st.sampled_from([D, E]),
)
def test_hashing_only_where_it_is_asked_for_gives_the_same_identities_as_hashing_always(
    wanted: list[list[str]], has: set[str], digest: str
) -> None:
    entries = EntrySet(entry(f"/{number}", *one) for number, one in enumerate(wanted))
    known = selectors(*has)
    always = selectors(*has, digest)
    found = always if entries.digest_could_match(known) else known
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert entries.matching(found, now) == entries.matching(always, now)
