"""What the demo takes for a refusal."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meshtls.cli.demo.walk import refusal_problem
from meshtls.observe.events import ConnectionResult, Direction, Outcome

ALERT = "the peer refused the connection with the alert 'unknown ca'"


def result(outcome: Outcome) -> ConnectionResult:
    return ConnectionResult(
        sidecar="b",
        direction=Direction.INBOUND,
        outcome=outcome,
        words="not on the list",
        started=datetime(2030, 5, 1, tzinfo=UTC),
        remote="127.0.0.1:4711",
    )


@pytest.mark.parametrize(
    ("judged", "got", "heard", "problem"),
    [
        (result(Outcome.POLICY_DENIED), b"", ALERT, None),
        (
            result(Outcome.POLICY_DENIED),
            b"",
            "the connection was closed",
            "x: wanted the caller to receive an alert, it saw: the connection was closed",
        ),
        (
            result(Outcome.POLICY_DENIED),
            b"secret",
            ALERT,
            "x: wanted POLICY_DENIED and no byte, got 6 bytes and POLICY_DENIED: not on the list",
        ),
        (result(Outcome.OK), b"", ALERT, "x: wanted POLICY_DENIED and no byte, got 0 bytes and OK: not on the list"),
        (None, b"", ALERT, "x: wanted POLICY_DENIED and no byte, got 0 bytes and no connection"),
    ],
    ids=["refused", "no alert", "bytes came", "let in", "never judged"],
)
def test_a_refusal_is_a_log_line_an_alert_and_no_byte(
    judged: ConnectionResult | None, got: bytes, heard: str, problem: str | None
) -> None:
    assert refusal_problem("x", Outcome.POLICY_DENIED, judged, got, heard) == problem
