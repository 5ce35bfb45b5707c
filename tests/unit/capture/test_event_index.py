"""The events of a session by their kinds: what the index finds is what a look at all events finds."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from meshtls.capture.event_index import EventIndex
from meshtls.capture.events import AlertSeen, ApplicationBytes, Event, MessageSeen, RecordSeen, Trouble
from meshtls.wire.side import SIDES, Side
from meshtls.wire.tls import ContentType, HandshakeType

CLIENT, SERVER = Side.CLIENT, Side.SERVER
DATA, HANDSHAKE = int(ContentType.APPLICATION_DATA), int(ContentType.HANDSHAKE)
HELLO, CERTIFICATE, FINISHED = (
    int(kind) for kind in (HandshakeType.SERVER_HELLO, HandshakeType.CERTIFICATE, HandshakeType.FINISHED)
)


def record(side: Side, kind: int, length: int) -> RecordSeen:
    return RecordSeen(side, length, length, kind, length, False, kind)


def message(side: Side, kind: int, data: bytes = b"", *, decrypted: bool = False) -> MessageSeen:
    return MessageSeen(side, 0, kind, data, decrypted)


#: A session's events, with one of each kind that counts.
EVENTS: tuple[Event, ...] = (
    record(CLIENT, HANDSHAKE, 1),
    record(CLIENT, DATA, 2),
    message(CLIENT, HELLO, b"not the server's"),
    record(SERVER, HANDSHAKE, 3),
    message(SERVER, HELLO, b"first"),
    Trouble(SERVER, 9, "something"),
    message(SERVER, CERTIFICATE, b"first"),
    message(SERVER, FINISHED),
    record(SERVER, DATA, 4),
    message(SERVER, FINISHED, decrypted=True),
    message(SERVER, CERTIFICATE, b"second"),
    message(CLIENT, FINISHED, decrypted=True),
    record(CLIENT, DATA, 5),
    ApplicationBytes(CLIENT, 7, b"a", 1),
    record(SERVER, DATA, 6),
    ApplicationBytes(SERVER, 8, b"bc", 2),
    message(SERVER, HELLO, b"second"),
    AlertSeen(CLIENT, 9, 1, 0, True),
)


def indexed(events: Sequence[Event]) -> EventIndex:
    index = EventIndex()
    index.take(events)
    return index


def test_events_are_found_by_their_kind() -> None:
    index = indexed(EVENTS)
    assert index.count == len(EVENTS)
    assert [one.length for one in index.records.events] == [1, 2, 3, 4, 5, 6]
    assert {side: [one.length for one in index.data[side].events] for side in SIDES} == {CLIENT: [2, 5], SERVER: [4, 6]}
    assert {side: [one.length for one in index.others[side].events] for side in SIDES} == {CLIENT: [1], SERVER: [3]}
    assert index.messages == [one for one in EVENTS if isinstance(one, MessageSeen)]
    assert index.application.events == [one for one in EVENTS if isinstance(one, ApplicationBytes)]
    assert index.alerts == [EVENTS[-1]]
    assert index.troubles == [EVENTS[5]]


def test_the_first_and_the_last_message_of_each_type_are_found() -> None:
    index = indexed(EVENTS)
    assert index.first[SERVER, CERTIFICATE].data == b"first"
    assert index.last[SERVER, CERTIFICATE].data == b"second"
    assert (CLIENT, CERTIFICATE) not in index.first
    assert (CLIENT, CERTIFICATE) not in index.last


def test_places_are_numbers_of_events_or_of_records() -> None:
    index = indexed(EVENTS)
    assert index.before_hello == 3, "the client's is no ServerHello, and of the server's the first counts"
    assert index.finished == {SERVER: 10, CLIENT: 12}, "one that was not decrypted is none"
    assert index.application.numbers == [14, 16]


def test_an_index_without_a_server_hello_and_decrypted_data_has_no_places() -> None:
    index = indexed(EVENTS[:4])
    assert (index.before_hello, index.finished, index.application.numbers) == (None, {}, [])


@pytest.mark.parametrize("after", range(len(EVENTS) + 1))
def test_between_returns_the_same_as_a_slice_of_all_events(after: int) -> None:
    index = indexed(EVENTS)
    for until in (None, *range(len(EVENTS) + 2)):
        part = [one for one in EVENTS[after:until] if isinstance(one, RecordSeen)]
        assert index.records.between(after, until) == part
        for side in SIDES:
            for found, is_data in ((index.data[side], True), (index.others[side], False)):
                wanted = [one for one in part if one.side is side and (one.content_type == DATA) is is_data]
                assert found.between(after, until) == wanted


@pytest.mark.parametrize("count", range(len(EVENTS) + 1))
def test_the_last_record_of_a_side_is_of_either_kind(count: int) -> None:
    index = indexed(EVENTS[:count])
    for side in SIDES:
        sent = [one for one in EVENTS[:count] if isinstance(one, RecordSeen) and one.side is side]
        assert index.last_record(side) == (sent[-1] if sent else None)


def test_taken_in_pieces_it_is_the_same() -> None:
    choice = Random(7)  # noqa: S311  # the same pieces in each run
    whole = indexed(EVENTS)
    for _ in range(50):
        index, events = EventIndex(), list[Event]()
        for one in EVENTS:
            events.append(one)
            if choice.random() < 0.4:
                index.take(events)
        index.take(events)
        for name in EventIndex.__slots__:
            assert _shown(getattr(index, name)) == _shown(getattr(whole, name)), name


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    return (value.events, value.numbers) if hasattr(value, "events") and hasattr(value, "numbers") else value


def test_its_repr_shows_how_much_there_is() -> None:
    assert repr(indexed(EVENTS)) == "<EventIndex [18 events, 6 records]>"
    assert repr(indexed(EVENTS).records) == "<Numbered [6 events]>"
