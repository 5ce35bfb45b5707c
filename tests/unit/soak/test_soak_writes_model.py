"""The model of the writes: a lost acknowledged write of any kind is detected."""

from __future__ import annotations

import pytest

from tests.soak.writes_model import WritesModel

WEB = "/web"


def after(*calls: tuple[str, int | None]) -> WritesModel:
    model = WritesModel()
    for outcome, value in calls:
        (model.acknowledge if outcome == "answered" else model.leave_open)(WEB, value)
    return model


@pytest.mark.parametrize(
    ("calls", "held"),
    [
        ([("answered", 10)], {WEB: 10}),
        ([("answered", 10), ("answered", 20)], {WEB: 20}),
        ([("answered", 10), ("answered", None)], {}),
        ([("open", 10)], {}),
        ([("open", 10)], {WEB: 10}),
        ([("answered", 10), ("open", 20)], {WEB: 10}),
        ([("answered", 10), ("open", 20)], {WEB: 20}),
        ([("answered", 10), ("open", None)], {}),
        ([("answered", 10), ("open", None)], {WEB: 10}),
        ([], {}),
    ],
)
def test_each_value_that_the_calls_may_have_left_is_accepted(
    calls: list[tuple[str, int | None]], held: dict[str, int]
) -> None:
    assert after(*calls).observe_all(held) == []


@pytest.mark.parametrize(
    ("calls", "held", "wrong"),
    [
        ([("answered", 10)], {}, "wanted an entry with TTL 10 by the calls that were answered, found no entry"),
        (
            [("answered", 10), ("answered", 20)],
            {WEB: 10},
            "wanted an entry with TTL 20 by the calls that were answered, found an entry with TTL 10",
        ),
        (
            [("answered", 10), ("answered", None)],
            {WEB: 10},
            "wanted no entry by the calls that were answered, found an entry with TTL 10",
        ),
        (
            [("answered", 10), ("open", 20)],
            {},
            "wanted an entry with TTL 10 or an entry with TTL 20 by the calls that were answered, found no entry",
        ),
        ([], {WEB: 10}, "wanted no entry by the calls that were answered, found an entry with TTL 10"),
    ],
)
def test_a_lost_or_invented_write_is_named(
    calls: list[tuple[str, int | None]], held: dict[str, int], wrong: str
) -> None:
    assert after(*calls).observe_all(held) == [f"{WEB}: {wrong}"]


def test_an_unanswered_call_is_decided_by_the_first_observation() -> None:
    model = after(("answered", 10), ("open", 20))
    assert model.observe(WEB, 20) is None
    assert model.observe(WEB, 10) is not None
    assert (model.acknowledged, model.unknown) == (1, 1)
