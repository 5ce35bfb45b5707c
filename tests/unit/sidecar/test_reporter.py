"""What the consumer of results raises stays with it, and is told once when it begins and once when it is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.sidecar.reporter import Reporter

RESULT = ConnectionResult(
    sidecar="b",
    direction=Direction.INBOUND,
    outcome=Outcome.OK,
    detail="both sides ended it",
    started=datetime(2030, 1, 1, tzinfo=UTC),
    remote="127.0.0.1:1",
)
FAILED = "sidecar b: on_result failed on a connection's result; connections go on unreported"


class Consumer:
    """Raises ``error``, if there is one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.taken = 0

    def __call__(self, result: ConnectionResult) -> None:
        if self.error is not None:
            raise self.error
        self.taken += 1


@pytest.mark.parametrize(
    "error",
    [OSError("no space left"), ValueError("I/O operation on closed file"), KeyError("x"), asyncio.CancelledError()],
)
def test_a_failure_is_contained_and_told_once_with_the_number_of_lost_results(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer(error)
    report = Reporter(consumer)
    for _ in range(3):
        report(RESULT)
    assert caplog.messages == [FAILED]
    assert repr(report) == "<Reporter [3 lost]>"
    consumer.error = None
    report(RESULT)
    report(RESULT)
    assert caplog.messages == [FAILED, "sidecar b: on_result works again; 3 results were lost"]
    assert consumer.taken == 2
    consumer.error = error
    report(RESULT)
    report.close("b")
    assert caplog.messages[2:] == [
        FAILED,
        "sidecar b: on_result did not work to the end; 1 results were lost",
    ]


def test_a_consumer_that_works_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    report = Reporter(consumer := Consumer())
    report(RESULT)
    report.close("b")
    assert (consumer.taken, caplog.messages) == (1, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_process_is_not_contained(error: BaseException) -> None:
    with pytest.raises(type(error)):
        Reporter(Consumer(error))(RESULT)
