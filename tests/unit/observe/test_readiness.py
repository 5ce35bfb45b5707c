"""What readiness says of one SVID, before and after its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meshtls.observe.readiness import Readiness, readiness_of
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock

START = datetime(2030, 1, 1, tzinfo=UTC)
SVID = svid_for(make_authority("example.org", ManualClock(START)), "/web", ttl=timedelta(seconds=290))
WEB = "SVID spiffe://example.org/web"
SINCE = "renewal failing since 2030-01-01T00:01:00Z: no server"


@pytest.mark.parametrize(
    ("seconds", "failing", "wanted"),
    [
        (0, False, Readiness(True)),
        (150, False, Readiness(True)),
        (250, False, Readiness(True, f"{WEB} expires in 40 s, and no newer one has come")),
        (70, True, Readiness(True, f"{WEB} expires in 220 s, {SINCE}")),
        (250, True, Readiness(True, f"{WEB} expires in 40 s, {SINCE}")),
        (290, True, Readiness(True, f"{WEB} expires in 0 s, {SINCE}")),
        (300, True, Readiness(False, f"{WEB} expired 10 s ago, {SINCE}")),
        (300, False, Readiness(False, f"{WEB} expired 10 s ago, and no newer one has come")),
    ],
)
def test_it_is_ready_while_valid_and_says_what_endangers_it(seconds: int, failing: bool, wanted: Readiness) -> None:
    since = START + timedelta(seconds=60) if failing else None
    assert readiness_of(SVID, START + timedelta(seconds=seconds), since, "no server") == wanted
