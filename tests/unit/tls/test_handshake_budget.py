"""How many large handshakes may be under way, and what counts as large."""

from __future__ import annotations

import pytest

from meshtls.tls.handshake_budget import MOST_SMALL, SMALL_HANDSHAKE, LargeHandshakes
from tests.support.clock import ManualClock


def used_up(clock: ManualClock) -> LargeHandshakes:
    budget = LargeHandshakes(clock)
    assert [budget.take() for _ in range(33)] == [True] * 32 + [False]
    return budget


def test_thirty_two_large_handshakes_may_begin_at_once_and_two_more_each_second() -> None:
    clock = ManualClock()
    budget = used_up(clock)
    clock.advance(0.25)
    assert not budget.take()
    clock.advance(0.25)
    assert [budget.take() for _ in range(2)] == [True, False]
    clock.advance(2)
    assert [budget.take() for _ in range(5)] == [True] * 4 + [False]


def test_a_pause_saves_up_no_more_than_a_full_budget() -> None:
    clock = ManualClock()
    budget = used_up(clock)
    clock.advance(3600)
    assert [budget.take() for _ in range(33)] == [True] * 32 + [False]


def test_an_accepted_large_handshake_costs_nothing() -> None:
    budget = used_up(ManualClock())
    budget.give_back()
    assert [budget.take() for _ in range(2)] == [True, False]


def test_a_refund_fills_the_budget_no_further_than_full() -> None:
    budget = LargeHandshakes(ManualClock())
    budget.give_back()
    assert [budget.take() for _ in range(33)] == [True] * 32 + [False]


@pytest.mark.parametrize(
    ("chain", "small"),
    [(1000, SMALL_HANDSHAKE), (1184, SMALL_HANDSHAKE), (1185, SMALL_HANDSHAKE + 1), (50_000, MOST_SMALL)],
)
def test_a_handshake_with_a_chain_as_long_as_our_own_is_small_up_to_a_bound(chain: int, small: int) -> None:
    budget = LargeHandshakes(ManualClock())
    budget.allow_for_own_chain(chain)
    assert budget.small == small


def test_a_shorter_chain_of_our_own_does_not_reduce_an_accepted_size() -> None:
    budget = LargeHandshakes(ManualClock())
    budget.accepted(5000)
    budget.allow_for_own_chain(1000)
    assert budget.small == 5064
