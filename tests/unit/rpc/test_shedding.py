"""Refusals are counted, by listener and reason."""

from __future__ import annotations

from meshtls.rpc.shedding import Refusal, Refusals


def test_refusals_are_counted_by_listener_and_reason() -> None:
    told: list[tuple[str, Refusal]] = []
    refusals = Refusals(lambda listener, why: told.append((listener, why)))
    refusals.count("agent socket", Refusal.RESETS)
    refusals.count("agent socket", Refusal.RESETS)
    assert refusals.counts == {("agent socket", Refusal.RESETS): 2}
    assert told == [("agent socket", Refusal.RESETS)] * 2
    assert repr(refusals) == "<Refusals [agent socket: RESETS 2]>"
