"""When a friendly connection may fail: while the SVID of a side has expired and can't be renewed."""

from __future__ import annotations

import pytest

from tests.soak.outages import Connection, Life, Outage, SvidLives, may_fail

ENDS = ("web", "db")


def lives(**not_after: float) -> SvidLives:
    """One SVID of each workload, first seen at 0."""
    return SvidLives({name: [Life(0, end)] for name, end in not_after.items()})


def failed(began: float, ended: float) -> Connection:
    return Connection(ENDS, began, ended, "reset")


OUTAGE = Outage(("server",), 100, 120)


@pytest.mark.parametrize(
    ("connection", "outages", "held"),
    [
        (failed(111, 112), [OUTAGE], lives(web=110, db=200)),
        (failed(111, 112), [OUTAGE], lives(web=200, db=110)),
        (failed(109, 110.5), [OUTAGE], lives(web=110, db=200)),
        (failed(119, 130), [OUTAGE], lives(web=110, db=200)),
        (failed(150, 151), [Outage(("agent",), 100)], lives(web=110, db=110)),
    ],
    ids=["the caller's is over", "the callee's is over", "over meanwhile", "begun before it healed", "not healed yet"],
)
def test_a_failure_without_identity_in_an_outage_is_permitted(
    connection: Connection, outages: list[Outage], held: SvidLives
) -> None:
    assert may_fail(connection, outages, held)


@pytest.mark.parametrize(
    ("connection", "outages", "held"),
    [
        (failed(50, 51), [OUTAGE], lives(web=110, db=110)),
        (failed(50, 51), [], lives(web=10, db=10)),
        (failed(101, 102), [OUTAGE], lives(web=110, db=110)),
        (failed(111, 112), [OUTAGE], lives(web=130, db=200)),
        (failed(121, 122), [OUTAGE], lives(web=110, db=110)),
    ],
    ids=["before the kill", "no kill at all", "the SVIDs are valid yet", "valid to the end", "healed"],
)
def test_every_other_failure_is_a_violation(connection: Connection, outages: list[Outage], held: SvidLives) -> None:
    assert not may_fail(connection, outages, held)


def test_an_svid_issued_just_before_a_kill_may_not_reach_every_watcher() -> None:
    held = SvidLives({"web": [Life(0, 103), Life(99.5, 200)], "db": [Life(0, 300)]})
    assert may_fail(failed(104, 105), [OUTAGE], held)
    held = SvidLives({"web": [Life(0, 103), Life(98.5, 200)], "db": [Life(0, 300)]})
    assert not may_fail(failed(104, 105), [OUTAGE], held)


def test_the_smallest_remaining_life_of_an_svid_is_reported() -> None:
    held = SvidLives()
    assert held.least_left("web") is None
    for life in (Life(0, 10), Life(5, 20), Life(12, 30)):
        held.add("web", life)
    assert held.least_left("web") == 5
