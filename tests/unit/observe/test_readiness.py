"""The readiness of one SVID, before and after its expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meshtls.observe.readiness import Readiness, readiness_of
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock

START = datetime(2030, 1, 1, tzinfo=UTC)
AUTHORITY = make_authority("example.org", ManualClock(START))
SVID = svid_for(AUTHORITY, "/web", ttl=timedelta(seconds=290))
WEB = "SVID spiffe://example.org/web"
SINCE = "renewal failing since 2030-01-01T00:01:00Z: no server"


@pytest.mark.parametrize(
    ("seconds", "failing", "wanted"),
    [
        (0, False, Readiness(True)),
        (150, False, Readiness(True)),
        (250, False, Readiness(True, f"{WEB} expires in 40 s, and no newer one was received")),
        (70, True, Readiness(True, f"{WEB} expires in 220 s, {SINCE}")),
        (250, True, Readiness(True, f"{WEB} expires in 40 s, {SINCE}")),
        (290, True, Readiness(True, f"{WEB} expires in 0 s, {SINCE}")),
        (300, True, Readiness(False, f"{WEB} expired 10 s ago, {SINCE}")),
        (300, False, Readiness(False, f"{WEB} expired 10 s ago, and no newer one was received")),
    ],
)
@pytest.mark.parametrize("received", [START, None], ids=["receipt known", "receipt unknown"])
def test_readiness_lasts_while_an_svid_is_valid_and_names_what_endangers_it(
    received: datetime | None, seconds: int, failing: bool, wanted: Readiness
) -> None:
    since = START + timedelta(seconds=60) if failing else None
    now = START + timedelta(seconds=seconds)
    assert readiness_of(SVID, now, received=received, failing_since=since, why="no server") == wanted


@pytest.mark.parametrize("life", [2, 4, 20, 3600])
@pytest.mark.parametrize("received", [START, None], ids=["receipt known", "receipt unknown"])
def test_a_newer_svid_is_missed_after_two_thirds_of_the_life_without_the_backdating(
    received: datetime | None, life: int
) -> None:
    svid = svid_for(AUTHORITY, "/web", ttl=timedelta(seconds=life))
    in_time, late = START + timedelta(seconds=life * 0.66), START + timedelta(seconds=life * 0.67)
    assert readiness_of(svid, in_time, received=received) == Readiness(True)
    missed = f"{WEB} expires in {int(life * 0.33)} s, and no newer one was received"
    assert readiness_of(svid, late, received=received) == Readiness(True, missed)


def test_a_life_counts_from_when_the_svid_was_received() -> None:
    received = START + timedelta(seconds=200)
    assert readiness_of(SVID, START + timedelta(seconds=250), received=received) == Readiness(True)
    missed = Readiness(True, f"{WEB} expires in 29 s, and no newer one was received")
    assert readiness_of(SVID, START + timedelta(seconds=261), received=received) == missed


def test_an_svid_that_was_not_backdated_is_not_ready_once_it_has_expired() -> None:
    now = svid_for(AUTHORITY, "/web", ttl=timedelta(seconds=1)).not_after + timedelta(seconds=1)
    brief = svid_for(AUTHORITY, "/web", ttl=timedelta(seconds=1))
    assert readiness_of(brief, now, received=now + timedelta(hours=1)) == Readiness(
        False, f"{WEB} expired 1 s ago, and no newer one was received"
    )


@pytest.mark.parametrize(
    ("state", "more", "wanted"),
    [
        (Readiness(True), (), Readiness(True)),
        (Readiness(True), ("", ""), Readiness(True)),
        (Readiness(False, "no SVID"), ("",), Readiness(False, "no SVID")),
        (Readiness(True), ("one", "", "two"), Readiness(True, "one; two")),
        (Readiness(False, "no SVID"), ("one",), Readiness(False, "no SVID; one")),
    ],
)
def test_notices_follow_the_text_and_change_no_verdict(
    state: Readiness, more: tuple[str, ...], wanted: Readiness
) -> None:
    assert state.telling(*more) == wanted
