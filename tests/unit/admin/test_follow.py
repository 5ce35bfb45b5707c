"""A reader of the tap that is too slow loses events and is told so; nobody waits for it."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from meshtls.admin.follow import passes, tap_page
from meshtls.admin.pages import Caller, Query, Stream
from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.observe.live import Ended, Observer
from meshtls.spiffeid import SpiffeId

ID = SpiffeId.parse("spiffe://a.test/x")


class Events:
    """Stands where a reporter gives events to its observers."""

    def __init__(self) -> None:
        self.observers: list[Observer] = []

    def observe(self, observer: Observer) -> object:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)

    def end(self, number: int, outcome: Outcome = Outcome.OK) -> None:
        result = ConnectionResult(
            sidecar="b",
            direction=Direction.INBOUND,
            outcome=outcome,
            words="",
            started=datetime(2030, 1, 1, tzinfo=UTC),
            remote="127.0.0.1:1",
            source_id=ID,
            connection_id=f"{number:016x}",
        )
        for observer in self.observers:
            observer(Ended(number, result))


async def test_events_beyond_the_bound_are_lost_oldest_first_and_counted() -> None:
    events = Events()
    page = tap_page(events.observe)  # type: ignore[arg-type]  # its return is called, whatever it is
    assert page.answer is not None
    stream = page.answer(Query({"verdict": "allowed"}, Caller("test", True)))
    assert isinstance(stream, Stream)
    async with aclosing(stream.records) as records:
        assert (await anext(records))["event"] == "following"
        for number in range(1500):
            events.end(number, Outcome.POLICY_DENIED)  # not for this reader: takes no place
            events.end(number)
        assert await anext(records) == {"event": "lost", "count": 1500 - 1024}
        assert (await anext(records))["number"] == 1500 - 1024
        for _ in range(1023):
            assert (await anext(records))["event"] == "ended"
        events.end(7)
        assert (await anext(records))["number"] == 7
    assert events.observers == []


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        ({"id": "0000000000000007"}, True),
        ({"id": "00"}, False),
        ({"source": "spiffe://a.test/x"}, True),
        ({"source": "spiffe://a.test/*"}, True),
        ({"source": "spiffe://a.test/"}, False),
        ({"direction": "inbound", "outcome": "ok"}, True),
        ({"direction": "outbound"}, False),
        ({"event": "request"}, False),
    ],
)
def test_a_filter_lets_through_what_has_all_of_its_words(words: dict[str, str], fits: bool) -> None:
    record = {
        "event": "ended",
        "connection_id": "0000000000000007",
        "source_id": str(ID),
        "direction": "inbound",
        "outcome": "OK",
    }
    assert passes(record, words) is fits


def test_a_filter_by_a_tunnel_s_id_lets_its_streams_through() -> None:
    assert passes({"connection_id": "0000000000000007-5"}, {"id": "0000000000000007"})
    assert not passes({"connection_id": "0000000000000007-5"}, {"id": "0000000000000007-51"})
