"""What a caller chooses to have recorded is bounded, and who chooses nothing is recorded by the share."""

from __future__ import annotations

import os

import pytest

from meshtls.sidecar.tracing.chosen import ChosenTraces, Source
from meshtls.sidecar.tracing.contexts import Sampler
from meshtls.wire.trace_context import SAMPLED, SpanContext

PEER, STRANGER = Source("spiffe://a.test/a", True), Source("192.0.2.1", False)


def a_span(*, sampled: bool = True) -> SpanContext:
    return SpanContext(os.urandom(16), os.urandom(8), os.urandom(8), SAMPLED if sampled else 0)


def recorded(chosen: ChosenTraces, source: Source, count: int, now: float, *, claimed: bool) -> int:
    return sum(chosen.decide(a_span(), source, now, claimed=claimed).sampled for _ in range(count))


@pytest.mark.parametrize(
    ("source", "claimed", "at_once", "a_second_later"),
    [(PEER, True, 200, 20), (PEER, False, 200, 20), (STRANGER, False, 20, 2), (STRANGER, True, 0, 0)],
)
def test_a_caller_that_chooses_each_of_its_traces_has_few_of_them_recorded(
    source: Source, claimed: bool, at_once: int, a_second_later: int
) -> None:
    chosen = ChosenTraces(Sampler(0), 0)
    assert recorded(chosen, source, 5000, 0, claimed=claimed) == at_once
    assert recorded(chosen, source, 5000, 1, claimed=claimed) == a_second_later


def test_a_caller_that_is_not_recorded_keeps_its_trace_and_loses_the_flag_alone() -> None:
    span = a_span()
    lost = ChosenTraces(Sampler(0), 0).decide(span, STRANGER, 0, claimed=True)
    assert lost == span._replace(flags=0)
    assert ChosenTraces(Sampler(0), 0).decide(span, PEER, 0, claimed=True) == span


def test_all_callers_together_are_bounded_and_strangers_take_nothing_from_peers() -> None:
    chosen = ChosenTraces(Sampler(0), 0)
    strangers = [Source(f"192.0.2.{number}", False) for number in range(250)]
    peers = [Source(f"spiffe://a.test/{number}", True) for number in range(250)]
    assert sum(recorded(chosen, one, 100, 0, claimed=False) for one in strangers) == 200
    assert sum(recorded(chosen, one, 100, 0, claimed=True) for one in peers) == 2000


def test_one_caller_takes_nothing_from_another() -> None:
    chosen = ChosenTraces(Sampler(0), 0)
    recorded(chosen, PEER, 5000, 0, claimed=True)
    assert recorded(chosen, Source("spiffe://a.test/b", True), 100, 0, claimed=True) == 100


@pytest.mark.parametrize("source", [PEER, STRANGER])
def test_a_caller_that_chooses_nothing_is_recorded_by_the_share_however_busy(source: Source) -> None:
    share, count = 0.1, 50_000
    sampler = Sampler(share)
    chosen = ChosenTraces(sampler, 0)
    wanted = [sampler.root() for _ in range(count)]
    found = sum(chosen.decide(one, source, 0, claimed=False).sampled for one in wanted)
    # By chance, more traces in a row than the share may be sampled: the most that a bucket holds evens that out.
    assert found >= 0.95 * sum(one.sampled for one in wanted)


def test_with_the_whole_share_everything_is_recorded() -> None:
    chosen = ChosenTraces(Sampler(1), 0)
    for source, claimed in ((PEER, True), (PEER, False), (STRANGER, True), (STRANGER, False)):
        assert recorded(chosen, source, 5000, 0, claimed=claimed) == 5000


def test_a_denied_callers_flag_is_sampled_by_chance() -> None:
    none, every = ChosenTraces(Sampler(0), 0), ChosenTraces(Sampler(1), 0)
    assert not none.by_chance(a_span()).sampled
    assert every.by_chance(a_span()).sampled
    assert not every.by_chance(a_span(sampled=False)).sampled
