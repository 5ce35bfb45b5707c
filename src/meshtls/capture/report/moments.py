"""What the sequence diagram of a connection shows: TCP's handshake, messages, alerts, gaps and ends, by time. Bounded.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from meshtls.capture.analysis.watching import Watched
from meshtls.capture.events import AlertSeen, ApplicationBytes, Event, MessageSeen, RecordSeen
from meshtls.printable import printable
from meshtls.wire.side import Side
from meshtls.wire.tls.messages import message_name
from meshtls.wire.tls.names import CONTENT_TYPES, alert_name

__all__ = ["MOST_MOMENTS", "Moment", "moments_of"]

#: Moments of one diagram: the first ones, and the last ones.
MOST_MOMENTS = 120
_LAST = 30
_LONGEST = 120
_CLOSE_NOTIFY = 0
_MS = 1e6


class Moment(NamedTuple):
    """An arrow of the diagram. ``ms`` since the first packet; None where nobody knows the time. ``kind``: "tcp",
    "record", "message", "data", "alert", "gap" or "end". ``length`` in bytes, of ``records`` in a row.
    """

    ms: float | None
    side: Side
    kind: str
    words: str
    length: int = 0
    records: int = 1


def moments_of(watched: Watched) -> tuple[tuple[Moment, ...], tuple[Moment, ...], int]:
    """The first ones, the last ones, and how many between them were left out."""
    found = _merged([*_opening(watched), *_events(watched)])
    if len(found) <= MOST_MOMENTS:
        return tuple(found), (), 0
    return tuple(found[: MOST_MOMENTS - _LAST]), tuple(found[-_LAST:]), len(found) - MOST_MOMENTS


def _opening(watched: Watched) -> Iterator[Moment]:
    flow = watched.flow
    for time_ns, side, words in (
        (flow.syn_ns, Side.CLIENT, "SYN"),
        (flow.syn_ack_ns, Side.SERVER, "SYN ACK"),
        (flow.established_ns, Side.CLIENT, "ACK"),
    ):
        if time_ns is not None and not watched.synthetic:
            yield Moment((time_ns - flow.first_ns) / _MS, side, "tcp", words)


def _events(watched: Watched) -> Iterator[Moment]:
    session, first_ns = watched.carried.tls, watched.flow.first_ns
    events: Sequence[Event] = session.events if session is not None else ()
    ends = list(watched.endings)
    for at, (one, after) in enumerate(pairwise([*events, None])):
        while ends and ends[0].events <= at:
            end = ends.pop(0)
            yield Moment((end.time_ns - first_ns) / _MS, end.side, "end", end.how.value)
        if one is not None and not _told_by(one, after):
            yield _moment(one, first_ns)
    for end in ends:
        yield Moment((end.time_ns - first_ns) / _MS, end.side, "end", end.how.value)


def _told_by(one: Event, after: Event | None) -> bool:
    """Whether the next event says what is in this record."""
    return (
        isinstance(one, RecordSeen)
        and isinstance(after, MessageSeen | AlertSeen | ApplicationBytes)
        and (one.side, one.time_ns) == (after.side, after.time_ns)
    )


def _moment(one: Event, first_ns: int) -> Moment:
    if isinstance(one, tuple):
        return Moment(None, one.side, "gap", _short(f"byte {one.offset}: {one.reason}"))
    ms = (one.time_ns - first_ns) / _MS if one.time_ns else None
    if isinstance(one, MessageSeen):
        return Moment(ms, one.side, "message", _short(message_name(one.kind, one.data)), len(one.data))
    if isinstance(one, AlertSeen):
        if one.description == _CLOSE_NOTIFY:  # no failure: drawn as a record
            return Moment(ms, one.side, "record", "alert: close_notify")
        return Moment(ms, one.side, "alert", alert_name(one.description) if one.description >= 0 else "encrypted")
    if isinstance(one, ApplicationBytes):
        return Moment(ms, one.side, "data", "early data" if one.early else "application data", one.length)
    name = CONTENT_TYPES.get(one.content_type, str(one.content_type))
    return Moment(ms, one.side, "record", f"record: {name}", one.length)


def _merged(moments: Sequence[Moment]) -> list[Moment]:
    """Data and records of one side in a row are one moment, with the time of the first."""
    found: list[Moment] = []
    for one in moments:
        last = found[-1] if found else None
        same = last is not None and (last.side, last.kind, last.words) == (one.side, one.kind, one.words)
        if last is not None and same and one.kind in ("data", "record"):
            found[-1] = last._replace(length=last.length + one.length, records=last.records + 1)
        else:
            found.append(one)
    return found


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
