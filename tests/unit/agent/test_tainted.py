"""What an agent replaces when authorities are tainted, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from meshtls.agent.cache import SvidCache
from meshtls.agent.upstream import Update
from meshtls.identity.schedule import Schedule
from meshtls.svid.lifetime import replacement_at
from tests.support.agent import OURS, entry
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock


@pytest.mark.parametrize(("jitter", "seconds"), [(-1.0, 0.0), (0.0, 1.5), (1.0, 3.0)])
def test_a_tainted_svid_is_replaced_within_three_seconds(jitter: float, seconds: float) -> None:
    now = ManualClock().now()
    assert replacement_at(now, jitter) == now + timedelta(seconds=seconds)


def test_a_replacement_is_never_later_than_the_attempt_that_is_due_anyway() -> None:
    now = ManualClock().now()
    soon, late = Schedule(now + timedelta(seconds=1)), Schedule(now + timedelta(hours=1))
    assert soon.hastened(now, 1.0) == soon
    assert late.hastened(now, 1.0) == replace(late, due=now + timedelta(seconds=3))


def test_only_the_svids_that_hang_on_a_tainted_authority_are_replaced() -> None:
    clock = ManualClock()
    now, old, new = clock.now(), make_authority(clock=clock), make_authority(clock=clock)
    cache = SvidCache(OURS)
    web, db = entry("/web"), entry("/db")
    cache.apply(Update(entries=(web, db), whole=True))
    for one, authority in ((web, old), (db, new)):
        cache.signed(one, svid_for(authority, one.spiffe_id), now, 0.0)
    assert cache.hasten(["another"], now, 0.0) == 0
    assert cache.next_event(now) == now + timedelta(minutes=30)
    assert cache.hasten([old.id], now, 0.0) == 1
    assert cache.due(now + timedelta(seconds=1)) == ()
    assert cache.due(now + timedelta(seconds=2)) == (web,)
