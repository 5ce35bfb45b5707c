"""Rate-limited log lines, so that strangers cannot fill the log."""

from __future__ import annotations

import logging

import pytest

from meshtls.counted_log import CountedLog, LineRate


def test_a_key_is_logged_at_once_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted = CountedLog(logging.getLogger("test"), lambda: now)
    for _ in range(1000):
        counted.warning("a", "uid 7: too much")
    counted.warning("b", "uid 8: too late")
    assert caplog.messages == ["uid 7: too much", "uid 8: too late"]
    now = 11.0
    counted.warning("a", "uid 9: too much")
    assert caplog.messages[2:] == ["uid 9: too much (999 more like it)"]


def test_the_number_of_suppressed_lines_is_logged_when_the_period_ends(caplog: pytest.LogCaptureFixture) -> None:
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


def test_ten_seconds_after_a_line_of_a_key_the_next_is_told(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted = CountedLog(logging.getLogger("test"), lambda: now)
    counted.warning("a", "first")
    now = 9.5
    counted.warning("a", "second")
    assert caplog.messages == ["first"]
    now = 10.0
    counted.warning("a", "third")
    assert caplog.messages[1:] == ["third (1 more like it)"]


def test_ten_seconds_after_a_line_of_a_key_what_was_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted = CountedLog(logging.getLogger("test"), lambda: now)
    for text in ("first", "second"):
        counted.warning("a", text)
    now = 9.5
    counted.flush()
    assert caplog.messages == ["first"]
    now = 10.0
    counted.flush()
    assert caplog.messages[1:] == ["second"]


@pytest.mark.parametrize(("others", "told"), [(1023, []), (1024, ["again"])])
def test_the_last_lines_of_1024_keys_are_remembered(
    caplog: pytest.LogCaptureFixture, others: int, told: list[str]
) -> None:
    counted = CountedLog(logging.getLogger("test"), lambda: 0.0)
    counted.warning("first", "said")
    for number in range(others):
        counted.warning(number, "other")
    caplog.clear()
    counted.warning("first", "again")
    assert caplog.messages == told


def test_the_key_whose_last_line_is_the_oldest_is_forgotten_first(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted = CountedLog(logging.getLogger("test"), lambda: now)
    counted.warning("first", "said")
    for number in range(1023):
        counted.warning(number, "other")
    now = 11.0
    counted.warning("first", "said again")
    counted.warning("one more", "other")
    caplog.clear()
    counted.warning("first", "said too often")
    assert caplog.messages == []


def test_lines_are_allowed_at_a_rate_and_what_is_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    rate = LineRate(logging.getLogger("test"), 2, lambda: now)
    assert [rate.allows("a", "a line") for _ in range(24)] == [True] * 20 + [False] * 4
    assert caplog.messages == ["a line left out, above 2 a second"]
    now = 1.0
    assert [rate.allows("a", "a line") for _ in range(3)] == [True, True, False]
    now = 10.0
    rate.flush()
    assert caplog.messages[1:] == ["a line left out, above 2 a second (3 more like it)"]
