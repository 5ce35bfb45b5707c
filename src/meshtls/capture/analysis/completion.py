"""When a captured TLS handshake was complete, and where its flights and session tickets end. Pure.

Without keys the messages of TLS 1.3 are encrypted, and only the lengths of records are left. They prove what is
missing: what is shorter than a Finished can't have one in it. That a message was there is inferred.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from meshtls.capture.aead import SuiteAead, aead_of_suite
from meshtls.capture.events import MessageSeen, RecordSeen
from meshtls.capture.session import TlsSession
from meshtls.wire.side import CLIENT, SERVER, SIDES, Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType

__all__ = ["MOST_TICKETS", "Completion", "completion_of", "may_be_ticket"]

_HANDSHAKE, _CHANGE = int(ContentType.HANDSHAKE), int(ContentType.CHANGE_CIPHER_SPEC)
_DATA = int(ContentType.APPLICATION_DATA)
_FINISHED = int(HandshakeType.FINISHED)
_BOTH = frozenset(SIDES)
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
    finished: frozenset[Side] = frozenset()
    changed: set[Side] = set()
    version = session.version
    tls13 = version == TLS_1_3
    aead = aead_of_suite(session.suite)
    least = aead.finished_bytes if aead is not None else 1
    server_answered = False
    client_sent = 0
    for at, one in enumerate(session.events, 1):
        inferred = False
        if isinstance(one, MessageSeen):
            if one.kind == _FINISHED and one.decrypted:
                # In TLS 1.3 the client's answers the server's, whether the server's is in the capture or not.
                finished |= _BOTH if tls13 and one.side is CLIENT else {one.side}
        elif not isinstance(one, RecordSeen) or not version:
            continue
        elif one.content_type == _CHANGE and not one.decrypted:
            changed.add(one.side)
        elif tls13 and one.content_type == _DATA:
            if one.side is SERVER:
                server_answered = True
            elif server_answered and not one.decrypted:
                client_sent += _content(one, aead)
                if client_sent >= least:
                    finished, inferred = _BOTH, True
        elif not tls13 and one.content_type == _HANDSHAKE and not one.decrypted and one.side in changed:
            finished |= {one.side}
            inferred = True
        if finished == _BOTH:
            if inferred and tls13 and aead is not None:
                return _inferred(session, aead, at)
            return Completion(at, at, one.time_ns, inferred)
    return None


def _content(one: RecordSeen, aead: SuiteAead | None) -> int:
    return one.length - aead.overhead if aead is not None else one.length


def _inferred(session: TlsSession, aead: SuiteAead, at: int) -> Completion:
    """What the lengths of TLS 1.3's records show. Event ``at`` is the client's first encrypted record that may be its
    Finished.

    The client's flight ends with a record of the length of a Finished. Where none comes before the server's next
    record, the flight is what the client sends at the time of the first. What the server sends then, before the
    client's next, are session tickets, as far as they may be that.
    """
    records = session.index.records
    events, numbers = records.events, records.numbers
    first = bisect_left(numbers, at)
    finished = aead.overhead + aead.finished_bytes
    begun_ns, whole = events[first].time_ns, first
    for place in range(first, len(events)):
        one = events[place]
        if one.side is not CLIENT:
            break
        if one.length == finished:
            whole = place
            break
        if one.time_ns == begun_ns:
            whole = place
    until, tickets = numbers[whole], list[int]()
    for place in range(whole + 1, len(events)):
        one = events[place]
        if one.side is CLIENT or not may_be_ticket(one, aead):
            break
        tickets.append(one.length)
        if len(tickets) > MOST_TICKETS or sum(set(tickets)) > _LONGEST_TICKET + aead.overhead:
            break
        until = numbers[place]
    return Completion(numbers[whole], until, events[whole].time_ns, True)


def may_be_ticket(one: RecordSeen, aead: SuiteAead) -> bool:
    """Whether an encrypted record of TLS 1.3 has the length of one session ticket."""
    return _SHORTEST_TICKET <= _content(one, aead) <= _LONGEST_TICKET
