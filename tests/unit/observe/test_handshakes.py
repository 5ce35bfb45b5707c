"""Which handshakes are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meshtls.observe.events import Direction
from meshtls.observe.handshakes import Handshake, Handshakes
from meshtls.wire.transcript import Transcript

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_handshake_a_second_is_noted_in_each_direction() -> None:
    kept = Handshakes()
    begun = [kept.begin(Direction.INBOUND, moment) is not None for moment in (5.0, 5.5, 5.9, 6.1)]
    assert begun == [True, False, False, True]
    assert kept.begin(Direction.OUTBOUND, 5.5) is not None


def test_a_flood_of_refused_handshakes_does_not_push_out_one_that_ended_well() -> None:
    kept = Handshakes()
    for number in range(50):
        ended = NOW + timedelta(seconds=number)
        kept.end(Handshake(str(number), Direction.INBOUND, ended, number == 0, Transcript()))
    assert [one.connection_id for one in kept] == ["49", "48", "47", "0"]
