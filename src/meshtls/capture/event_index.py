"""The events of one TLS session by their kinds, sorted out in one pass. Pure.

A dozen rules say what is told of a connection, and each wants a few of its events: the records of one side after the
handshake, the first Certificate. They look them up here instead of each going through all events.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import Generic, TypeVar

import msgspec

from meshtls.capture.events import AlertSeen, ApplicationBytes, Event, MessageSeen, RecordSeen, Trouble
from meshtls.wire.side import SERVER, SIDES, Side
from meshtls.wire.tls import ContentType, HandshakeType
from meshtls.wire.tls.compression import decompressed_certificate

__all__ = ["EventIndex", "Numbered"]

E = TypeVar("E")
_DATA = int(ContentType.APPLICATION_DATA)
_SERVER_HELLO, _FINISHED = int(HandshakeType.SERVER_HELLO), int(HandshakeType.FINISHED)
_CERTIFICATE, _COMPRESSED = int(HandshakeType.CERTIFICATE), int(HandshakeType.COMPRESSED_CERTIFICATE)


class Numbered(msgspec.Struct, Generic[E]):
    """Some of the events, in their order, and the number that each has among all events. The first event has 1."""

    events: list[E] = []
    numbers: list[int] = []

    def between(self, after: int, until: int | None = None) -> list[E]:
        """The events after event number ``after``, up to number ``until``."""
        start = bisect_right(self.numbers, after)
        return self.events[start:] if until is None else self.events[start : bisect_right(self.numbers, until)]

    def __repr__(self) -> str:
        return f"<Numbered [{len(self.events)} events]>"


class EventIndex:
    """The events of one session, by their kinds. ``take`` sorts out the events that came since it was called last.

    - ``count``: events so far.
    - ``records``: all records. By their side: ``data``, whose header says application data, and ``others``.
    - ``application``, ``messages``, ``alerts``, ``troubles``: the events of these kinds.
    - ``first``, ``last``: the first and the last message of each type, by its side and type. A CompressedCertificate
      is here as the Certificate that it holds as well, if it can be decompressed.
    - ``finished``: the number of each side's last Finished that was decrypted.
    - ``before_hello``: how many records came before the server's first ServerHello; None without one.
    """

    __slots__ = (
        *("alerts", "application", "before_hello", "count", "data", "finished", "first", "last"),
        *("messages", "others", "records", "troubles"),
    )

    def __init__(self) -> None:
        self.count = 0
        self.records: Numbered[RecordSeen] = Numbered()
        self.data: dict[Side, Numbered[RecordSeen]] = {side: Numbered() for side in SIDES}
        self.others: dict[Side, Numbered[RecordSeen]] = {side: Numbered() for side in SIDES}
        self.messages: list[MessageSeen] = []
        self.application: Numbered[ApplicationBytes] = Numbered()
        self.alerts: list[AlertSeen] = []
        self.troubles: list[Trouble] = []
        self.first: dict[tuple[Side, int], MessageSeen] = {}
        self.last: dict[tuple[Side, int], MessageSeen] = {}
        self.finished: dict[Side, int] = {}
        self.before_hello: int | None = None

    def take(self, events: Sequence[Event]) -> None:
        """``events``: all of the session, those of earlier calls included."""
        records, numbers = self.records.events, self.records.numbers
        data, others = self.data, self.others
        for number, one in enumerate(islice(events, self.count, None), self.count + 1):
            if isinstance(one, RecordSeen):
                records.append(one)
                numbers.append(number)
                place = (data if one.content_type == _DATA else others)[one.side]
                place.events.append(one)
                place.numbers.append(number)
            elif isinstance(one, MessageSeen):
                self._message(number, one)
            elif isinstance(one, ApplicationBytes):
                self.application.events.append(one)
                self.application.numbers.append(number)
            elif isinstance(one, AlertSeen):
                self.alerts.append(one)
            else:
                self.troubles.append(one)
        self.count = len(events)

    def last_record(self, side: Side) -> RecordSeen | None:
        """The last record of a side."""
        data, others = self.data[side], self.others[side]
        if data.numbers[-1:] > others.numbers[-1:]:
            return data.events[-1]
        return others.events[-1] if others.events else None

    def _message(self, number: int, one: MessageSeen) -> None:
        self.messages.append(one)
        self._note(one)
        if one.kind == _COMPRESSED and isinstance(held := decompressed_certificate(one.data), bytes):
            self._note(msgspec.structs.replace(one, kind=_CERTIFICATE, data=held))
        if one.kind == _FINISHED and one.decrypted:
            self.finished[one.side] = number
        elif one.kind == _SERVER_HELLO and one.side is SERVER and self.before_hello is None:
            self.before_hello = len(self.records.events)

    def _note(self, one: MessageSeen) -> None:
        key = one.side, one.kind
        self.first.setdefault(key, one)
        self.last[key] = one

    def __repr__(self) -> str:
        return f"<EventIndex [{self.count} events, {len(self.records.events)} records]>"
