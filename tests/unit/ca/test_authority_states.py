"""The states of an authority: every cell of the table, and the reason in each cell that is empty."""

from __future__ import annotations

import itertools

import pytest

from meshtls.ca.authority_states import AUTHORITY, PUBLISHED, REFUSALS, AuthorityState, AuthorityStep, next_state
from meshtls.errors import RequestError

PREPARED, ACTIVE, OLD, TAINTED, REVOKED, EXPIRED = AuthorityState
ACTIVATE, RETIRE, TAINT, REVOKE, EXPIRE = AuthorityStep

STEPS = {
    (PREPARED, ACTIVATE): ACTIVE,
    (PREPARED, REVOKE): REVOKED,
    (PREPARED, EXPIRE): EXPIRED,
    (ACTIVE, RETIRE): OLD,
    (OLD, TAINT): TAINTED,
    (OLD, REVOKE): REVOKED,
    (OLD, EXPIRE): EXPIRED,
    (TAINTED, REVOKE): REVOKED,
    (TAINTED, EXPIRE): EXPIRED,
}
UNUSED = "it has signed nothing yet; revoke it if its key is not safe"
SIGNS = "it is the one that signs; prepare and activate another one first"
OVER = "it signs no more, and never will again; prepare a new one"
GONE = "it is out of the bundle already"
REASONS = {
    (PREPARED, RETIRE): f"can't retire it while it is PREPARED: {UNUSED}",
    (PREPARED, TAINT): f"can't taint it while it is PREPARED: {UNUSED}",
    (ACTIVE, ACTIVATE): "can't activate it while it is ACTIVE: it is active already",
    (ACTIVE, TAINT): f"can't taint it while it is ACTIVE: {SIGNS}",
    (ACTIVE, REVOKE): f"can't revoke it while it is ACTIVE: {SIGNS}",
    (ACTIVE, EXPIRE): f"can't expire it while it is ACTIVE: {SIGNS}",
    (OLD, ACTIVATE): f"can't activate it while it is OLD: {OVER}",
    (OLD, RETIRE): f"can't retire it while it is OLD: {OVER}",
    (TAINTED, ACTIVATE): f"can't activate it while it is TAINTED: {OVER}",
    (TAINTED, RETIRE): f"can't retire it while it is TAINTED: {OVER}",
    (TAINTED, TAINT): "can't taint it while it is TAINTED: it is tainted already",
    **{
        (state, step): f"can't {step.name.lower()} it while it is {state.name}: {GONE}"
        for state in (REVOKED, EXPIRED)
        for step in AuthorityStep
    },
}
CELLS = list(itertools.product(AuthorityState, AuthorityStep))


@pytest.mark.parametrize(("state", "step"), CELLS)
def test_each_cell_leads_to_its_state_or_is_refused_with_its_reason(state: AuthorityState, step: AuthorityStep) -> None:
    if (state, step) in STEPS:
        assert next_state(state, step) is STEPS[state, step]
        return
    with pytest.raises(RequestError) as refused:
        next_state(state, step)
    assert str(refused.value) == REASONS[state, step]


@pytest.mark.parametrize(("state", "step"), CELLS)
def test_each_cell_has_either_a_next_state_or_a_reason(state: AuthorityState, step: AuthorityStep) -> None:
    assert (step in AUTHORITY[state]) != (step in REFUSALS[state])


def test_an_authority_is_published_until_it_is_revoked_or_expired() -> None:
    assert set(AuthorityState) - PUBLISHED == {REVOKED, EXPIRED}
