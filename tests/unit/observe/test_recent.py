"""What is remembered of connections that ended: bounded, and no kind of end pushes out another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.observe.recent import Recent

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)


def result(outcome: Outcome, seconds: int) -> ConnectionResult:
    return ConnectionResult(
        sidecar="b",
        direction=Direction.INBOUND,
        outcome=outcome,
        words="",
        started=NOW + timedelta(seconds=seconds),
        remote="192.0.2.1:4711",
    )


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.POLICY_DENIED, Outcome.HANDSHAKE_FAILED])
def test_probes_of_a_port_push_out_nothing_and_are_bounded_themselves(outcome: Outcome) -> None:
    recent = Recent(most=2)
    recent.connection(result(outcome, 0))
    for second in range(1, 6):
        recent.connection(result(Outcome.CLOSED_EARLY, second))
    kept = [(one.outcome, one.started) for one in recent.connections()]
    early = [(Outcome.CLOSED_EARLY, NOW + timedelta(seconds=second)) for second in (5, 4)]
    assert kept == [*early, (outcome, NOW)]
    assert recent.totals == {("inbound", Outcome.CLOSED_EARLY): 5, ("inbound", outcome): 1}


def test_failures_push_out_the_oldest_failure() -> None:
    recent = Recent(most=2)
    for second in range(3):
        recent.connection(result(Outcome.HANDSHAKE_FAILED, second))
    assert [one.started.second for one in recent.connections()] == [2, 1]
