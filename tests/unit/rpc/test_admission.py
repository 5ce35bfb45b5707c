"""Budgets, and who gives way to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshtls.rpc.admission import Admission, Caller, address_caller
from meshtls.rpc.budget import Budget, Budgets
from meshtls.rpc.limits import Limits
from meshtls.rpc.shedding import Refusal


class Connection:
    """A member that remembers why it was evicted."""

    caller: Caller

    def __init__(self, admission: Admission, *, busy: bool = False, proven: bool = True) -> None:
        self._admission = admission
        self.busy = busy
        self.proven = proven
        self.evicted: Refusal | None = None

    def evict(self, refusal: Refusal) -> None:
        self.evicted = refusal
        self._admission.leave(self)


def admission(**limits: int) -> Admission:
    return Admission(replace(Limits(), **limits))


def admitted(
    by: Admission, caller: str, count: int = 1, *, busy: bool = False, proven: bool = True
) -> list[Connection]:
    made = [Connection(by, busy=busy, proven=proven) for _ in range(count)]
    assert [by.admit(caller, one, 0.0) for one in made] == [None] * count
    return made


def test_a_budget_can_be_saved_up_for_ten_seconds_and_no_longer() -> None:
    budget = Budget(2.0, 0.0)
    assert [budget.take(1, 0.0) for _ in range(21)] == [True] * 20 + [False]
    assert budget.seconds_until(1, 0.0) == 0.5
    assert [budget.take(1, 1.0) for _ in range(3)] == [True, True, False]
    assert [budget.take(1, 1000.0) for _ in range(21)] == [True] * 20 + [False]


def test_a_budget_whose_rate_changes_keeps_what_is_left_as_far_as_may_be_saved() -> None:
    budget = Budget(2.0, 0.0)
    budget.set_rate(1.0, 0.0)
    assert [budget.take(1, 0.0) for _ in range(11)] == [True] * 10 + [False]
    budget.set_rate(3.0, 0.0)
    assert [budget.take(1, 1.0) for _ in range(4)] == [True] * 3 + [False]


def test_other_limits_hold_from_the_next_connection_on_for_known_callers_too() -> None:
    listener = admission(connections_per_caller=3, connections_per_second=100)
    first, second, third = admitted(listener, "uid 1", 3)

    listener.set_limits(replace(Limits(), connections_per_caller=2, connections_per_second=1), 0.0)
    assert [one.evicted for one in (first, second, third)] == [None, None, None]

    [fourth] = admitted(listener, "uid 1")
    assert [one.evicted for one in (first, second, third, fourth)] == [
        Refusal.CONNECTIONS_PER_CALLER,
        None,
        None,
        None,
    ]
    admitted(listener, "uid 1", 9)
    assert listener.admit("uid 1", Connection(listener), 0.0) is Refusal.CONNECTION_RATE


def test_budgets_forget_those_longest_unheard_of() -> None:
    budgets = Budgets(1.0)
    assert budgets.of("first", 0.0).take(10, 0.0)
    assert not budgets.of("first", 0.0).take(1, 0.0)
    for number in range(5000):
        budgets.of(f"other {number}", 0.0)
    assert budgets.of("first", 0.0).take(10, 0.0)


def test_the_largest_holders_oldest_idle_connection_gives_way_to_another_caller() -> None:
    listener = admission(connections=4)
    busy, *idle = admitted(listener, "uid 1", busy=True) + admitted(listener, "uid 1", 3)
    admitted(listener, "uid 2")
    assert [one.evicted for one in (busy, *idle)] == [None, Refusal.EVICTED, None, None]
    assert len(listener) == 4


def test_a_caller_that_holds_the_most_takes_no_others_place() -> None:
    listener = admission(connections=4)
    admitted(listener, "uid 1", 2)
    others = admitted(listener, "uid 2", 2)
    assert listener.admit("uid 1", Connection(listener), 0.0) is Refusal.CONNECTIONS
    assert [one.evicted for one in others] == [None, None]


def test_strangers_give_way_to_strangers_and_have_half_of_the_places() -> None:
    listener = admission(connections=8)
    agents = admitted(listener, "spiffe://example.org/agent", 4)
    strangers = [admitted(listener, f"10.0.0.{number}", proven=False)[0] for number in range(4)]
    admitted(listener, "10.0.0.9", proven=False)
    assert [one.evicted for one in strangers] == [Refusal.EVICTED, None, None, None]
    assert [one.evicted for one in agents] == [None] * 4


def test_a_connection_that_proves_itself_counts_as_the_caller_that_it_is() -> None:
    listener = admission(connections=8, connections_per_caller=2)
    [first, second] = admitted(listener, "10.0.0.1", 2, proven=False)
    assert listener.prove(first, "spiffe://example.org/agent", 0.0) is None
    admitted(listener, "10.0.0.1", proven=False)
    assert second.evicted is None
    assert first.caller.name == "spiffe://example.org/agent"
    assert len(listener) == 3


def test_a_connection_leaves_once() -> None:
    listener = admission()
    [one] = admitted(listener, "uid 1")
    listener.leave(one)
    listener.leave(one)
    assert len(listener) == 0


def test_bytes_of_messages_are_bounded_for_each_caller_and_in_all() -> None:
    listener = admission(message_bytes=10)
    one, *others = (listener.caller(f"uid {number}", 0.0) for number in range(6))
    assert listener.reserve(one, 40)
    assert not listener.reserve(one, 1)
    assert [listener.reserve(other, 40) for other in others] == [True, True, True, False, False]
    listener.free(one, 40)
    assert listener.reserve(others[3], 40)


@pytest.mark.parametrize(
    ("host", "caller"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_host_with_many_addresses_is_one_caller(host: str, caller: str) -> None:
    assert address_caller(host) == caller
