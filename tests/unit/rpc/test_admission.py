"""Budgets and eviction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshtls.budget import Budget, Budgets
from meshtls.rpc.admission import Admission, CallerBudgets, address_caller
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.shedding import Refusal


class Connection:
    """A member that records the reason of its eviction."""

    caller: CallerBudgets

    def __init__(self, admission: Admission, *, busy: bool = False, proven: bool = True) -> None:
        self._admission = admission
        self.busy = busy
        self.proven = proven
        self.evicted: Refusal | None = None

    def evict(self, refusal: Refusal) -> None:
        self.evicted = refusal
        self._admission.leave(self)


def admission(**limits: int) -> Admission:
    return Admission(replace(ListenerLimits(), **limits))


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


def test_a_budget_whose_rate_changes_fills_at_the_old_rate_until_then() -> None:
    budget = Budget(2.0, 0.0)
    assert budget.take(20, 0.0)
    budget.set_rate(4.0, 1.0)
    assert [budget.take(1, 1.0) for _ in range(3)] == [True, True, False]


def test_the_time_until_a_budget_suffices_counts_tokens_refilled_since() -> None:
    budget = Budget(2.0, 0.0)
    assert budget.take(20, 0.0)
    assert budget.seconds_until(1, 0.25) == 0.25
    assert budget.seconds_until(1, 5.0) == 0.0


def test_a_refund_can_be_spent_again_up_to_a_full_budget() -> None:
    budget = Budget(2.0, 0.0)
    assert budget.take(20, 0.0)
    budget.give_back(3)
    assert [budget.take(1, 0.0) for _ in range(4)] == [True] * 3 + [False]
    budget.give_back(100)
    assert [budget.take(1, 0.0) for _ in range(21)] == [True] * 20 + [False]


def test_changed_limits_apply_to_known_callers_from_their_next_connection() -> None:
    listener = admission(connections_per_caller=3, connections_per_second=100)
    first, second, third = admitted(listener, "uid 1", 3)

    listener.set_limits(replace(ListenerLimits(), connections_per_caller=2, connections_per_second=1), 0.0)
    assert [one.evicted for one in (first, second, third)] == [None, None, None]

    [fourth] = admitted(listener, "uid 1")
    assert [one.evicted for one in (first, second, third, fourth)] == [
        Refusal.EVICTED,
        None,
        None,
        None,
    ]
    admitted(listener, "uid 1", 9)
    assert listener.admit("uid 1", Connection(listener), 0.0) is Refusal.CONNECTION_RATE


def test_changed_rates_apply_to_every_budget_of_a_known_caller() -> None:
    listener = admission(resets_per_second=1, idle_frames_per_second=1, calls_per_second=1)
    caller = listener.caller("uid 1", 0.0)
    assert caller.calls is not None
    budgets = (caller.resets, caller.idle_frames, caller.calls)
    assert [budget.take(10, 0.0) for budget in budgets] == [True] * 3

    faster = replace(listener.limits, resets_per_second=2, idle_frames_per_second=3, calls_per_second=4)
    listener.set_limits(faster, 0.0)

    assert [budget.seconds_until(12, 0.0) for budget in budgets] == [6.0, 4.0, 3.0]


@pytest.mark.parametrize(("before", "after", "has_budget"), [(None, 1.0, False), (1.0, None, True)])
def test_a_known_caller_keeps_its_budget_when_only_one_limit_has_a_rate(
    before: float | None, after: float | None, has_budget: bool
) -> None:
    listener = Admission(replace(ListenerLimits(), calls_per_second=before))
    caller = listener.caller("uid 1", 0.0)
    listener.set_limits(replace(listener.limits, calls_per_second=after), 0.0)
    assert (caller.calls is not None) == has_budget
    assert caller.calls is None or [caller.calls.take(10, 0.0), caller.calls.take(1, 0.0)] == [True, False]
    assert (listener.caller("uid 2", 0.0).calls is None) == (after is None)


@pytest.mark.parametrize(("others", "remembered"), [(4095, True), (4096, False)])
def test_budgets_of_4096_names_are_remembered(others: int, remembered: bool) -> None:
    budgets = Budgets(1.0)
    assert budgets.of("first", 0.0).take(10, 0.0)
    for number in range(others):
        budgets.of(f"other {number}", 0.0)
    assert budgets.of("first", 0.0).take(1, 0.0) != remembered


@pytest.mark.parametrize(("others", "remembered"), [(4095, True), (4096, False)])
def test_the_budgets_of_4096_callers_without_connections_are_remembered(others: int, remembered: bool) -> None:
    listener = admission()
    first = listener.caller("first", 0.0)
    for number in range(others):
        listener.caller(f"other {number}", 0.0)
    assert (listener.caller("first", 0.0) is first) == remembered


def test_a_returning_caller_is_remembered_longer() -> None:
    listener = admission()
    first, second = (listener.caller(name, 0.0) for name in ("first", "second"))
    for number in range(4094):
        listener.caller(f"other {number}", 0.0)
    assert listener.caller("first", 0.0) is first
    listener.caller("one more", 0.0)
    assert listener.caller("first", 0.0) is first
    assert listener.caller("second", 0.0) is not second


def test_a_caller_with_a_connection_or_a_stream_is_not_forgotten() -> None:
    listener = admission()
    [connection] = admitted(listener, "connected")
    streaming, idle = (listener.caller(name, 0.0) for name in ("streaming", "idle"))
    streaming.streams = 1
    for number in range(5000):
        listener.caller(f"other {number}", 0.0)
    assert listener.caller("connected", 0.0) is connection.caller
    assert listener.caller("streaming", 0.0) is streaming
    assert listener.caller("idle", 0.0) is not idle


def test_the_least_recently_used_budgets_are_forgotten() -> None:
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


def test_the_largest_holders_oldest_connection_gives_way_where_all_are_busy() -> None:
    listener = admission(connections=4)
    busy = admitted(listener, "uid 1", 4, busy=True)
    admitted(listener, "uid 2")
    assert [one.evicted for one in busy] == [Refusal.EVICTED, None, None, None]


def test_a_caller_does_not_evict_the_largest_holder_when_it_would_hold_as_much_itself() -> None:
    listener = admission(connections=5)
    largest = admitted(listener, "uid 1", 3)
    admitted(listener, "uid 2", 2)
    assert listener.admit("uid 2", Connection(listener), 0.0) is Refusal.CONNECTIONS
    assert [one.evicted for one in largest] == [None] * 3


def test_a_callers_busy_connections_do_not_give_way_to_its_next() -> None:
    listener = admission(connections_per_caller=2)
    busy = admitted(listener, "uid 1", 2, busy=True)
    assert listener.admit("uid 1", Connection(listener), 0.0) is Refusal.CONNECTIONS_PER_CALLER
    assert [one.evicted for one in busy] == [None, None]
    busy[1].busy = False
    admitted(listener, "uid 1")
    assert [one.evicted for one in busy] == [None, Refusal.EVICTED]


def test_a_caller_that_holds_the_most_evicts_no_other_caller() -> None:
    listener = admission(connections=4)
    admitted(listener, "uid 1", 2)
    others = admitted(listener, "uid 2", 2)
    assert listener.admit("uid 1", Connection(listener), 0.0) is Refusal.CONNECTIONS
    assert [one.evicted for one in others] == [None, None]


def test_unproven_callers_have_half_of_the_slots_and_evict_each_other() -> None:
    listener = admission(connections=8)
    agents = admitted(listener, "spiffe://example.org/agent", 4)
    strangers = [admitted(listener, f"10.0.0.{number}", proven=False)[0] for number in range(4)]
    admitted(listener, "10.0.0.9", proven=False)
    assert [one.evicted for one in strangers] == [Refusal.EVICTED, None, None, None]
    assert [one.evicted for one in agents] == [None] * 4


def test_an_unproven_caller_beyond_half_of_the_slots_evicts_an_unproven_one() -> None:
    listener = admission(connections=8)
    strangers = [admitted(listener, f"10.0.0.{number}", proven=False)[0] for number in range(4)]
    admitted(listener, "spiffe://example.org/agent")
    assert [one.evicted for one in strangers] == [None] * 4
    admitted(listener, "10.0.0.9", proven=False)
    assert [one.evicted for one in strangers] == [Refusal.EVICTED, None, None, None]


def test_a_stranger_gives_way_before_a_proven_caller_that_holds_more() -> None:
    listener = admission(connections=4)
    agents = admitted(listener, "spiffe://example.org/agent", 3)
    [stranger] = admitted(listener, "10.0.0.1", proven=False)
    admitted(listener, "spiffe://example.org/other")
    assert stranger.evicted is Refusal.EVICTED
    assert [one.evicted for one in agents] == [None] * 3


def test_a_stranger_that_is_busy_does_not_give_way_to_another() -> None:
    listener = admission(connections=2)
    [stranger] = admitted(listener, "10.0.0.1", busy=True, proven=False)
    assert listener.admit("10.0.0.2", Connection(listener, proven=False), 0.0) is Refusal.CONNECTIONS
    assert stranger.evicted is None
    stranger.busy = False
    admitted(listener, "10.0.0.2", proven=False)
    assert stranger.evicted is Refusal.EVICTED


def test_a_stranger_that_has_left_takes_no_slot() -> None:
    listener = admission(connections=2)
    [stranger] = admitted(listener, "10.0.0.1", proven=False)
    listener.leave(stranger)
    admitted(listener, "10.0.0.2", proven=False)
    assert stranger.evicted is None
    assert len(listener) == 1


def test_a_connection_stays_unproven_when_its_caller_has_no_room() -> None:
    listener = admission(connections_per_caller=1)
    [agent] = admitted(listener, "spiffe://example.org/agent", busy=True)
    [stranger] = admitted(listener, "10.0.0.1", proven=False)
    refusal = listener.prove(stranger, "spiffe://example.org/agent", 0.0)
    assert refusal is Refusal.CONNECTIONS_PER_CALLER
    assert (stranger.proven, stranger.caller.name) == (False, "10.0.0.1")
    agent.busy = False
    assert listener.prove(stranger, "spiffe://example.org/agent", 0.0) is None
    assert agent.evicted is Refusal.EVICTED
    assert (stranger.proven, stranger.caller.name) == (True, "spiffe://example.org/agent")


def test_a_proven_connection_counts_against_its_own_caller() -> None:
    listener = admission(connections=8, connections_per_caller=2)
    [first, second] = admitted(listener, "10.0.0.1", 2, proven=False)
    assert listener.prove(first, "spiffe://example.org/agent", 0.0) is None
    admitted(listener, "10.0.0.1", proven=False)
    assert [one.evicted for one in (first, second)] == [None, None]
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
    assert not listener.reserve(one, 1)
    listener.free(others[3], 40)
    assert listener.reserve(one, 40)


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
