"""Whether a server whose records are encrypted has sent application data, and which records are session tickets. Pure.

A server that refuses a client's certificate in TLS 1.3 has finished already, and may have sent session tickets: only
application data shows that it accepted the client. When the records came does not matter here, since a client sends its
request before or after the tickets arrive, and the tickets come in one packet or in several.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.analysis.completion import MOST_TICKETS, Completion, may_be_ticket
from meshtls.capture.events import RecordSeen
from meshtls.capture.outside import OutsideView
from meshtls.capture.padding import has_short_message, is_padded
from meshtls.capture.session import TlsSession
from meshtls.wire.side import CLIENT, SERVER
from meshtls.wire.tls import TLS_1_3, ContentType

__all__ = ["NO_TICKETS", "ServerData", "Tickets", "server_data", "tickets_of"]

_ALERT = int(ContentType.ALERT)


class ServerData(Enum):
    """What the lengths of the server's records show.

    - SHOWN: it sent application data. UNTOLD: nothing that can't be session tickets or alerts. NONE: nothing but
      alerts.
    - THEN_ALERT: it sent what may be data, and then answered a record of the client with one of the length of an
      alert, which no such record of the client followed. Data after the handshake may also be a request for a
      certificate.
    - PADDED: its records may be padded, so their lengths show nothing.
    """

    SHOWN = "shown"
    UNTOLD = "untold"
    NONE = "none"
    THEN_ALERT = "then an alert"
    PADDED = "padded"


class Tickets(NamedTuple):
    """Records of the server that may be session tickets.

    - ``early``: what came between the client's Finished and its next record.
    - ``run``: the first records after these, as far as they may be tickets: of one length, as one server's are.
    """

    early: list[RecordSeen]
    run: list[RecordSeen]

    @property
    def late(self) -> list[RecordSeen]:
        """Session tickets that came after the client's first application data: records of the length of earlier
        tickets, or several of one length. A single one is taken for data here.
        """
        return self.run if len(self.run) > 1 or self.early else []

    @property
    def may_count_one(self) -> bool:
        """Whether the server's first record after the client's first application data may be its only session ticket,
        as Go's servers send one. It is taken for data.
        """
        return len(self.run) == 1 and not self.early


NO_TICKETS = Tickets([], [])


def tickets_of(session: TlsSession, done: Completion) -> Tickets:
    """The session tickets of TLS 1.3, by the lengths of its records. None of a suite that is unknown here."""
    aead, records = aead_of_suite(session.suite), session.index.data[SERVER]
    if aead is None:
        return NO_TICKETS
    early = records.between(done.at, done.until)
    run: list[RecordSeen] = []
    lengths = {one.length for one in early}
    for one in records.between(done.until):
        lengths = lengths or {one.length}
        if len(run) + len(early) >= MOST_TICKETS or one.length not in lengths or not may_be_ticket(one, aead):
            break
        run.append(one)
    return Tickets(early, run)


def server_data(session: TlsSession, view: OutsideView, done: Completion, tickets: Tickets) -> ServerData:
    """What the server sent after its handshake, in a session without keys. Before TLS 1.3 the type of a record says
    that it is data.
    """
    aead, records = aead_of_suite(session.suite), session.index.data[SERVER]
    after = records.between(done.until)
    if session.version != TLS_1_3:
        return ServerData.SHOWN if after else ServerData.UNTOLD
    sent = records.between(done.at)
    if aead is None or len(sent) > MOST_TICKETS + 1:
        # More records than tickets and an alert: data, padded or not.
        return _shown(session, view) if after else ServerData.UNTOLD
    alerts = {offset for side, offset in view.alerts if side is SERVER}
    rest = [one for one in after[len(tickets.run) :] if one.offset not in alerts]
    natural = has_short_message([one.length for one in records.events], aead)
    if sent and (not natural or is_padded([one.length for one in rest], aead)):
        return ServerData.PADDED
    if rest:
        return _shown(session, view)
    return ServerData.UNTOLD if any(one.offset not in alerts for one in sent) else ServerData.NONE


def _shown(session: TlsSession, view: OutsideView) -> ServerData:
    """Where the server sent what is no session ticket: whether an alert followed that may refuse the client."""
    offsets, records = frozenset(view.alerts), session.index.records.events

    def is_alert(one: RecordSeen) -> bool:
        return one.inner_type == _ALERT or (one.side, one.offset) in offsets

    last = next(at for at in reversed(range(len(records))) if records[at].side is SERVER)
    refuses = is_alert(records[last]) and not any(map(is_alert, records[last + 1 :]))
    answers = records[last - 1].side is CLIENT and not is_alert(records[last - 1])
    return ServerData.THEN_ALERT if refuses and answers else ServerData.SHOWN
