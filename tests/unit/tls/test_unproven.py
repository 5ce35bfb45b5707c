"""Which connection gives way at the bound of the unproven: the oldest of the largest group."""

from __future__ import annotations

import pytest

from meshtls.tls.unproven import Stage, Unproven, source_of


def test_no_connection_gives_way_below_the_bound() -> None:
    unproven = Unproven[str](2)
    assert [unproven.enter(name, "a") for name in ("one", "two")] == [None, None]
    assert "one" in unproven
    assert repr(unproven) == "<Unproven [2 of 2 connections, 1 groups]>"


def test_the_oldest_connection_of_a_source_gives_way_at_the_bound() -> None:
    unproven = Unproven[str](2)
    gone = [unproven.enter(name, "a") for name in ("one", "two", "three", "four")]
    assert gone == [None, None, "one", "two"]
    assert ("one" in unproven, len(unproven)) == (False, 2)


def test_a_flood_of_one_source_gives_way_to_itself_though_others_are_older() -> None:
    unproven = Unproven[str](4)
    unproven.enter("neighbour", "b")
    gone = [unproven.enter(f"flood {number}", "a") for number in range(6)]
    assert gone == [None, None, None, "flood 0", "flood 1", "flood 2"]
    assert "neighbour" in unproven


def test_silent_connections_give_way_before_older_ones_of_their_source_that_shake_hands() -> None:
    unproven = Unproven[str](4)
    for stage in (Stage.HANDSHAKE, Stage.QUEUED):
        unproven.enter(stage.name, "a")
        unproven.reach(stage.name, stage)
    gone = [unproven.enter(f"silent {number}", "a") for number in range(4)]
    assert gone == [None, None, "silent 0", "silent 1"]


def test_half_handshakes_give_way_once_they_are_the_largest_group() -> None:
    unproven = Unproven[str](4)
    unproven.enter("silent", "a")
    for number in range(3):
        unproven.enter(f"half {number}", "a")
        unproven.reach(f"half {number}", Stage.HANDSHAKE)
    assert unproven.enter("new", "a") == "half 0"


def test_the_oldest_of_many_single_connection_sources_gives_way() -> None:
    unproven = Unproven[str](3)
    assert [unproven.enter(name, name) for name in "abcde"] == [None, None, None, "a", "b"]


def test_proven_and_ended_connections_free_their_slots() -> None:
    unproven = Unproven[str](1)
    unproven.enter("one", "a")
    assert unproven.leave("one")
    assert not unproven.leave("one")
    unproven.reach("one", Stage.HANDSHAKE)  # of one that is no member: nothing
    assert repr(unproven) == "<Unproven [0 of 1 connections, 0 groups]>"
    assert len(unproven) == 0
    assert unproven.enter("two", "a") is None


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", "loopback"),
        ("127.200.3.4", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("unknown", "unknown"),
    ],
)
def test_addresses_under_one_holders_control_count_as_one_source(host: str, source: str) -> None:
    assert source_of(host) == source
