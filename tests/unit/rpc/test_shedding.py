"""Lines of a log that strangers cannot fill."""

from __future__ import annotations

import logging

import pytest

from meshtls.rpc.shedding import CountedLog, Refusal, Refusals


def test_a_key_is_told_at_once_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted = CountedLog(logging.getLogger("test"), lambda: now)
    for _ in range(1000):
        counted.warning("a", "uid 7: too much")
    counted.warning("b", "uid 8: too late")
    assert caplog.messages == ["uid 7: too much", "uid 8: too late"]
    now = 11.0
    counted.warning("a", "uid 9: too much")
    assert caplog.messages[2:] == ["uid 9: too much (999 more like it)"]


def test_what_was_left_out_is_told_when_its_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted = CountedLog(logging.getLogger("test"), lambda: now)
    for number in range(4):
        counted.warning("a", f"uid {number}: too much")
    counted.flush()
    assert caplog.messages == ["uid 0: too much"]
    now = 11.0
    counted.flush()
    counted.flush()
    assert caplog.messages[1:] == ["uid 3: too much (2 more like it)"]


def test_refusals_are_counted_by_listener_and_reason() -> None:
    told: list[tuple[str, Refusal]] = []
    refusals = Refusals(lambda listener, why: told.append((listener, why)))
    refusals.count("agent socket", Refusal.RESETS)
    refusals.count("agent socket", Refusal.RESETS)
    assert refusals.counts == {("agent socket", Refusal.RESETS): 2}
    assert told == [("agent socket", Refusal.RESETS)] * 2
    assert repr(refusals) == "<Refusals [agent socket: RESETS 2]>"
