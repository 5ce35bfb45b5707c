"""When a captured TLS handshake was complete, and where its flights and session tickets end. Pure.

Without keys the messages of TLS 1.3 are encrypted, and only the lengths of records are left. They prove what is
missing: what is shorter than a Finished can't have one in it. That a message was there is inferred.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from meshtls.capture.aead import SuiteAead, aead_of_suite
from meshtls.capture.events import MessageSeen, RecordSeen
from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType

__all__ = ["MOST_TICKETS", "Completion", "completion_of", "may_be_ticket"]

_HANDSHAKE, _CHANGE = int(ContentType.HANDSHAKE), int(ContentType.CHANGE_CIPHER_SPEC)
_DATA = int(ContentType.APPLICATION_DATA)
_FINISHED = int(HandshakeType.FINISHED)
#: Bytes of the shortest NewSessionTicket: a ticket of one byte, and neither
#: nonce nor extensions (RFC 8446, section 4.6.1).
_SHORTEST_TICKET = 18
#: The longest session ticket, which holds the client's certificate, and all of one flight, where those of one length
#: count once: servers send two.
_LONGEST_TICKET = 2048
MOST_TICKETS = 4


class Completion(NamedTuple):
    """Both sides have finished.

    - ``at``: the number of events until then; ``until``: with the session tickets that follow.
    - ``inferred``: it is known from encrypted records.
    """

    at: int
    until: int
    time_ns: int
    inferred: bool


def completion_of(session: TlsSession) -> Completion | None:
    """When the handshake was complete; None where it was not, or can't be known."""
    finished: set[Side] = set()
    changed: set[Side] = set()
    tls13 = session.version == TLS_1_3
    aead = aead_of_suite(session.suite)
    server_answered = False
    client_sent = 0
    for at, one in enumerate(session.events, 1):
        inferred = False
        if isinstance(one, MessageSeen):
            if one.kind == _FINISHED and one.decrypted:
                # In TLS 1.3 the client's answers the server's, whether the server's is in the capture or not.
                finished |= set(Side) if tls13 and one.side is Side.CLIENT else {one.side}
        elif not isinstance(one, RecordSeen) or not session.version:
            continue
        elif one.content_type == _CHANGE and not one.decrypted:
            changed.add(one.side)
        elif tls13 and one.content_type == _DATA:
            if one.side is Side.SERVER:
                server_answered = True
            elif server_answered and not one.decrypted:
                client_sent += _content(one, aead)
                if client_sent >= _finished_bytes(aead):
                    finished, inferred = set(Side), True
        elif not tls13 and one.content_type == _HANDSHAKE and not one.decrypted and one.side in changed:
            finished.add(one.side)
            inferred = True
        if len(finished) == len(Side):
            if inferred and tls13 and aead is not None:
                return _inferred(session, aead, at)
            return Completion(at, at, one.time_ns, inferred)
    return None


def _content(one: RecordSeen, aead: SuiteAead | None) -> int:
    return one.length - aead.overhead if aead is not None else one.length


def _finished_bytes(aead: SuiteAead | None) -> int:
    return aead.finished_bytes if aead is not None else 1


def _inferred(session: TlsSession, aead: SuiteAead, at: int) -> Completion:
    """Of TLS 1.3, from lengths. Event ``at`` is the client's first encrypted record that may be its Finished.

    The client's flight ends with a record of the length of a Finished. Where none comes before the server's next
    record, the flight is what the client sends at the time of the first. What the server sends then, before the
    client's next, are session tickets, as far as they may be that.
    """
    records = [(place, one) for place, one in enumerate(session.events[at - 1 :], at) if isinstance(one, RecordSeen)]
    flight = list(takewhile(lambda each: each[1].side is Side.CLIENT, records))
    whole = next((each for each in flight if _content(each[1], aead) == _finished_bytes(aead)), None)
    last, done = whole or [each for each in flight if each[1].time_ns == flight[0][1].time_ns][-1]
    until, tickets = last, list[int]()
    for place, one in records[records.index((last, done)) + 1 :]:
        tickets.append(one.length)
        too_many = len(tickets) > MOST_TICKETS or sum(set(tickets)) > _LONGEST_TICKET + aead.overhead
        if one.side is Side.CLIENT or not may_be_ticket(one, aead) or too_many:
            break
        until = place
    return Completion(last, until, done.time_ns, True)


def may_be_ticket(one: RecordSeen, aead: SuiteAead) -> bool:
    """Whether an encrypted record of TLS 1.3 has the length of one session ticket."""
    return _SHORTEST_TICKET <= _content(one, aead) <= _LONGEST_TICKET
