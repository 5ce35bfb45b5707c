"""The log lines of a lasting failure."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from meshtls.observe.outage import Outage
from tests.support.clock import ManualClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_thousand_failures_are_one_warning_each_cause_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(NOW)
    outage = Outage(logging.getLogger("meshtls.test"), clock)
    for _ in range(1000):
        outage.failed("refused", "it refuses")
        clock.advance(1)
    assert (outage.failures, outage.since) == (1000, NOW)
    outage.failed("silent", "it is silent", logging.ERROR)
    outage.ended("it works again")
    outage.ended("it works again")
    outage.failed("silent", "it is silent")
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "it refuses"),
        ("ERROR", "it is silent (1000 earlier failures with another cause)"),
        ("WARNING", "it works again after 1001 failures since 2030-01-01T00:00:00Z"),
        ("WARNING", "it is silent"),
    ]
    assert repr(outage) == "<Outage [1 failures]>"
