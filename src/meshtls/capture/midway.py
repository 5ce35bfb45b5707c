"""The records of a TLS connection that was captured from its middle: how many, of which types, and the last. Pure.

Without the hellos neither the version nor the suite is known, and nothing can be decrypted. What is left are the
headers of records, in clear. Where the first record begins is not known either: five bytes that look like a header can
be anywhere in what is encrypted. So a direction is read from a record on at whose end another one begins, or the bytes
that have come end. If no record follows then, what was read was none, and does not count.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from meshtls.capture.memory import Level, MemoryShare
from meshtls.capture.record_search import RecordSearch
from meshtls.wire.side import SIDES, Side
from meshtls.wire.tls.names import CONTENT_TYPES, ContentType
from meshtls.wire.tls.records import RECORD_HEADER, Record, RecordReader

__all__ = ["LEAST_RECORDS", "MidwayRecords"]

#: Records of both sides that show that it is TLS.
LEAST_RECORDS = 2
_DATA, _ALERT = int(ContentType.APPLICATION_DATA), int(ContentType.ALERT)
#: Payloads of an alert of TLS 1.3: its two bytes, the content type, and a tag of 16 or of 8 bytes.
_ALERT_LENGTHS = frozenset({19, 11})


class _Last(NamedTuple):
    """The last record of a side."""

    content_type: int
    length: int

    @property
    def is_alert(self) -> bool:
        """Whether its type says alert: those of TLS 1.2, and what is in clear."""
        return self.content_type == _ALERT

    @property
    def may_be_alert(self) -> bool:
        """Whether it may be one by its type, or by its length, which some data has as well."""
        return self.is_alert or (self.content_type == _DATA and self.length in _ALERT_LENGTHS)


class _Direction:
    __slots__ = ("data_bytes", "failed", "kinds", "last", "reader", "record_bytes", "search")

    def __init__(self) -> None:
        self.search: RecordSearch | None = RecordSearch(0)
        self.reader: RecordReader | None = None
        self.failed = False
        self.kinds: Counter[int] = Counter()
        self.record_bytes = self.data_bytes = 0
        self.last: _Last | None = None

    @property
    def kept(self) -> int:
        return (self.search.held if self.search is not None else 0) + (self.reader.kept if self.reader else 0)

    @property
    def is_between_records(self) -> bool:
        """Whether the capture so far ends at a record boundary."""
        return self.reader is not None and not self.reader.pending

    def take(self, record: Record) -> None:
        self.kinds[record.content_type] += 1
        self.record_bytes += record.length + RECORD_HEADER
        if record.content_type == _DATA:
            self.data_bytes += record.length
        self.last = _Last(record.content_type, record.length)

    def give_up(self) -> None:
        self.failed, self.search, self.reader, self.last = True, None, None, None
        self.kinds.clear()
        self.record_bytes = self.data_bytes = 0


class MidwayRecords:
    """A ByteSink, which takes both directions from anywhere on."""

    __slots__ = ("_directions", "_level")

    def __init__(self, memory: MemoryShare) -> None:
        self._level = Level(memory)
        self._directions = {side: _Direction() for side in SIDES}

    @property
    def count(self) -> int:
        """Records of both sides."""
        return sum(one.kinds.total() for one in self._directions.values())

    def overhead(self, side: Side) -> int:
        """Bytes of a side's records that are no payload of application data."""
        one = self._directions[side]
        return one.record_bytes - one.data_bytes

    def record_bytes(self, side: Side) -> int:
        """The bytes of a side's records, with their headers."""
        return self._directions[side].record_bytes

    def turn(self) -> None:
        """Client and server were taken for each other."""
        self._directions = {side.other: one for side, one in self._directions.items()}

    def feed(self, side: Side, data: bytes, time_ns: int) -> None:
        """What ``side`` sent next."""
        one = self._directions[side]
        if one.failed:
            return
        if one.search is not None:
            found = one.search.feed(data)
            if found is None:
                self._note_kept(one)
                return
            one.search, one.reader = None, RecordReader(side, keep_application_data=False)
            one.reader.offset, data = found.offset, found.data
        if one.reader is not None:
            for record in one.reader.feed(data):
                one.take(record)
        self._note_kept(one)

    def gap(self, side: Side, missing: int) -> None:
        """So many bytes are lost; 0 if nobody knows how many."""
        one = self._directions[side]
        if one.reader is not None:
            for record in one.reader.lost(missing):
                one.take(record)
            if missing and one.reader.error is None:
                return
        if not one.failed:
            one.search, one.reader = RecordSearch(0), None
            self._note_kept(one)

    def end(self, side: Side) -> None:
        """No more comes from ``side``."""

    def words(self) -> str:
        """Which records there are, and how they end; "" where they don't show that it is TLS."""
        if self.count < LEAST_RECORDS:
            return ""
        parts = [f"{_counted(one.kinds)} of the {side.value}" for side, one in self._directions.items() if one.kinds]
        ends = [
            f"the last one of the {side.value} {'is an' if last.is_alert else 'has the length of an'} alert"
            for side, one in self._directions.items()
            if (last := one.last) is not None and last.may_be_alert and one.is_between_records
        ]
        closed = [": likely both closed"] if len(ends) == len(SIDES) else []
        return f"{' and '.join(parts)} are seen{''.join(f', {one}' for one in ends)}{''.join(closed)}"

    def _note_kept(self, one: _Direction) -> None:
        error = one.reader.error if one.reader is not None else None
        if error is not None or (one.search is not None and one.search.failed):
            one.give_up()
        if not self._level.to(sum(each.kept for each in self._directions.values())):
            one.give_up()
            self._level.to(sum(each.kept for each in self._directions.values()))

    def __repr__(self) -> str:
        return f"<MidwayRecords [{self.count} records]>"


def _counted(kinds: Counter[int]) -> str:
    """As in ``3 records (2 application data, 1 alert)``."""
    words = ", ".join(f"{count} {CONTENT_TYPES[kind].replace('_', ' ')}" for kind, count in sorted(kinds.items()))
    return f"{kinds.total()} record{'s' * (kinds.total() != 1)} ({words})"
