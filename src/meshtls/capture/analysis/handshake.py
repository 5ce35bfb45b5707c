"""The facts of a TLS session's handshake: what was negotiated, how long it took, and whether it was legal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from meshtls.capture.aead import SuiteAead, aead_of_suite
from meshtls.capture.analysis.connection import Handshake
from meshtls.capture.events import AlertSeen, ApplicationBytes, MessageSeen, RecordSeen, Trouble
from meshtls.capture.flow import Ending
from meshtls.capture.outside import outside_view
from meshtls.capture.session import TlsSession
from meshtls.printable import printable
from meshtls.wire.side import Side
from meshtls.wire.tls import (
    TLS_1_3,
    ContentType,
    HandshakeType,
    alpn_of_message,
    certificates_of_message,
    server_name_of_message,
)
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import GROUPS, VERSIONS, name_of
from meshtls.wire.tls.records import RECORD_HEADER
from meshtls.wire.tls.suites import CIPHER_SUITES
from meshtls.wire.tls_following import TlsStates
from meshtls.wire.tls_states import Event, State
from meshtls.wire.tls_steps import TlsSteps

__all__ = ["Completion", "Ended", "application_bytes", "chain_of", "completion_of", "handshake_of"]

_MS = 1e6
_ALPN = "application_layer_protocol_negotiation"
_MOST_CHAIN = 16
_HANDSHAKE, _CHANGE = int(ContentType.HANDSHAKE), int(ContentType.CHANGE_CIPHER_SPEC)
_DATA, _ALERT = int(ContentType.APPLICATION_DATA), int(ContentType.ALERT)
#: Handshake messages after which the client waits for the server, or may send data.
_FINISHED = int(HandshakeType.FINISHED)
#: Bytes of the header of a handshake message, and of the shortest NewSessionTicket: a ticket of one byte, and neither
#: nonce nor extensions (RFC 8446, section 4.6.1).
_HEADER, _SHORTEST_TICKET = 4, 18
#: Of a record. Two longer ones of one length are a transfer; a ticket that holds a client's chain has some 2 KiB.
_LONGEST_TICKET = 4096


class Ended(NamedTuple):
    """One side ended at ``time_ns``, when so many events of its session had been seen."""

    events: int
    side: Side
    how: Ending
    time_ns: int


class Completion(NamedTuple):
    """Both sides have finished.

    - ``at``: the number of events until then; ``until``: with the rest of the flights, and session tickets.
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
    server_encrypted = False
    tls13 = session.version == TLS_1_3
    aead = aead_of_suite(session.suite)
    alert = 3 + aead.tag_bytes if aead is not None else 0
    for at, one in enumerate(session.events, 1):
        inferred = False
        if isinstance(one, MessageSeen) and one.kind == _FINISHED and one.decrypted:
            finished.add(one.side)
        elif isinstance(one, RecordSeen) and not one.decrypted and session.version:
            inferred = True
            if one.content_type == _CHANGE:
                changed.add(one.side)
            elif tls13 and one.content_type == _DATA:
                if one.side is Side.SERVER:
                    server_encrypted = True
                elif server_encrypted and one.length != alert:
                    finished |= set(Side)
            elif not tls13 and one.content_type == _HANDSHAKE and one.side in changed:
                finished.add(one.side)
        if len(finished) == len(Side) and not isinstance(one, Trouble):
            until = _end_of_flights(session, aead, at, one.time_ns) if inferred and tls13 and aead is not None else at
            return Completion(at, until, one.time_ns, inferred)
    return None


def _end_of_flights(session: TlsSession, aead: SuiteAead, at: int, time_ns: int) -> int:
    """The events until the first application data, as far as encrypted records tell. What the client sends at one time
    with its first record, event ``at``, is its flight, up to a record of the length of a Finished. What the server
    sends before the client's next are session tickets, unless it is too short for one.
    """
    finished = _HEADER + aead.hash_bytes + aead.tag_bytes + 1
    answered = over = False
    for place, one in enumerate(session.events[at - 1 :], at - 1):
        if not isinstance(one, RecordSeen):
            continue
        if one.side is Side.SERVER:
            if not _may_be_ticket(one, aead):
                return place
            answered = True
        elif answered or over or one.time_ns != time_ns:
            return place
        else:
            over = one.length == finished
    return len(session.events)


def _may_be_ticket(one: RecordSeen, aead: SuiteAead) -> bool:
    return one.length >= _SHORTEST_TICKET + aead.tag_bytes + 1


def _late_tickets(session: TlsSession, aead: SuiteAead, done: Completion) -> list[RecordSeen]:
    """Session tickets that came after the client's first application data: two records of one length at one time, as
    servers send them. A single one can't be told from data.
    """
    sent = [one for one in session.events[done.at :] if isinstance(one, RecordSeen) and one.side is Side.SERVER]
    early = any(isinstance(one, RecordSeen) and one.side is Side.SERVER for one in session.events[done.at : done.until])
    if early or len(sent) < 2 or (sent[0].length, sent[0].time_ns) != (sent[1].length, sent[1].time_ns):
        return []
    return sent[:2] if _may_be_ticket(sent[0], aead) and sent[0].length <= _LONGEST_TICKET else []


def chain_of(session: TlsSession, side: Side) -> tuple[list[bytes], int]:
    """The first chain that ``side`` presented, leaf first, and when. Empty where none was seen."""
    for one in _messages(session):
        if one.side is side and one.kind == HandshakeType.CERTIFICATE:
            try:
                return certificates_of_message(session.version, one.data, limit=_MOST_CHAIN), one.time_ns
            except ValueError:
                return [], 0
    return [], 0


def application_bytes(session: TlsSession, done: Completion | None) -> tuple[Mapping[Side, int], bool]:
    """Bytes of application data of each side; and whether they are computed from lengths of encrypted records."""
    sides = {side: session.direction(side) for side in Side}
    known = {side: one.application_bytes for side, one in sides.items()}
    aead = aead_of_suite(session.suite)
    if aead is None or done is None or not any(one.opaque for one in sides.values()):
        return known, False
    tls13 = session.version == TLS_1_3
    each = aead.tag_bytes + (1 if tls13 else 8 * (not aead.cipher.name.startswith("CHACHA")))
    if not tls13:
        found = {side: max(0, count - each * _records(session, side)) for side, count in known.items()}
        return found, True
    found = {}
    alerts = [side for side, _ in outside_view(session).alerts]
    seen = [record for record in session.events[: done.until] if isinstance(record, RecordSeen)]
    seen += _late_tickets(session, aead, done)
    for side, one in sides.items():
        before = [record.length + RECORD_HEADER for record in seen if record.side is side]
        left = one.records - len(before)
        found[side] = max(0, one.record_bytes - sum(before) - left * (RECORD_HEADER + each) - 2 * alerts.count(side))
    return found, True


def _records(session: TlsSession, side: Side) -> int:
    """Records of application data of TLS 1.2: all but those of the handshake."""
    others = sum(
        isinstance(one, RecordSeen) and one.side is side and one.content_type != _DATA for one in session.events
    )
    return max(0, session.direction(side).records - others)


def handshake_of(session: TlsSession, done: Completion | None, ended: Sequence[Ended], *, whole: bool) -> Handshake:
    """The facts. ``whole``: the session was captured from its beginning, and nothing of it is lost."""
    view = outside_view(session)
    hello = _first(session, Side.CLIENT, HandshakeType.CLIENT_HELLO)
    group, alpn = _negotiated(session)
    begin = hello.time_ns if hello is not None else None
    state, legal = _followed(session, ended) if whole else ("not judged: something of it is missing", None)
    return Handshake(
        version=VERSIONS.get(session.version) or (f"{session.version:#06x}" if session.version else ""),
        suite=name_of(CIPHER_SUITES, session.suite) if session.version else "",
        group=group,
        post_quantum=("MLKEM" in group or "Kyber" in group or "CECPQ" in group) if group else None,
        server_name=printable(server_name_of_message(hello.data) or "") if hello is not None else "",
        alpn=alpn,
        offered_alpn=tuple(_text(one) for one in alpn_of_message(hello.data)[:16]) if hello is not None else (),
        mutual=view.mutual.value,
        mutual_likely=view.likely.value,
        mutual_reason=view.evidence,
        resumed=view.resumed.value,
        retried=session.retried,
        complete=done is not None,
        inferred=done is not None and done.inferred,
        ms=(done.time_ns - begin) / _MS if done is not None and begin is not None else None,
        round_trips=_round_trips(session, done) if done is not None else None,
        decrypted=any(session.direction(side).decrypted for side in Side),
        state=state,
        legal=legal,
    )


def _messages(session: TlsSession) -> Iterator[MessageSeen]:
    return (one for one in session.events if isinstance(one, MessageSeen))


def _first(session: TlsSession, side: Side, kind: int) -> MessageSeen | None:
    return next((one for one in _messages(session) if one.side is side and one.kind == kind), None)


def _negotiated(session: TlsSession) -> tuple[str, str]:
    """The group of the key exchange, and the protocol of ALPN."""
    group = alpn = ""
    for one in _messages(session):
        if one.side is Side.SERVER and one.kind in (
            HandshakeType.SERVER_HELLO,
            HandshakeType.ENCRYPTED_EXTENSIONS,
            HandshakeType.SERVER_KEY_EXCHANGE,
        ):
            tree = decode_message(one.kind, one.data, session.version, suite=session.suite)
            share = tree.child("extensions", "key_share", "server_share", "group") or tree.child("named_curve")
            if share is not None and isinstance(share.value, int):
                group = name_of(GROUPS, share.value)
            alpn = _chosen(tree) or alpn
    return group, alpn


def _chosen(tree: Field) -> str:
    found = tree.child("extensions", _ALPN, "protocol_name_list", "protocol_name")
    return _text(found.value) if found is not None and isinstance(found.value, bytes) else ""


def _text(value: bytes) -> str:
    return printable(value[:255].decode("utf-8", "backslashreplace"))


def _round_trips(session: TlsSession, done: Completion) -> int:
    """How often the server answered the client until both had finished."""
    trips, last = 0, Side.SERVER
    for one in session.events[: done.at]:
        if isinstance(one, RecordSeen):
            trips += one.side is Side.SERVER and last is Side.CLIENT
            last = one.side
    return trips


def _followed(session: TlsSession, ended: Sequence[Ended]) -> tuple[str, bool | None]:
    states, illegal = TlsStates(), ""
    for side, event in _events(session, ended):
        found = states.step(side, event)
        if found is not None:
            illegal = str(found)
            break
    if illegal:
        return f"illegal: {illegal}", False
    if states.state is State.START:
        return "", None
    return states.state.name, True


def _events(session: TlsSession, ended: Sequence[Ended]) -> Iterator[tuple[Side, Event]]:
    steps = TlsSteps()
    changed: set[Side] = set()
    tls13 = session.version == TLS_1_3
    ends = list(ended) if not session.events_dropped else []
    for at, one in enumerate(session.events):
        while ends and ends[0].events <= at:
            yield from _end(ends.pop(0))
        if isinstance(one, MessageSeen):
            yield from ((one.side, event) for event in steps.of_message(one.side, one.data))
        elif isinstance(one, AlertSeen):
            if one.description >= 0:
                yield one.side, steps.of_alert(one.level, one.description)
            elif not tls13:
                yield one.side, Event.ENCRYPTED_ALERT
        elif isinstance(one, ApplicationBytes):
            yield one.side, Event.APPLICATION_DATA
        elif isinstance(one, RecordSeen):
            kind = one.inner_type if one.decrypted else one.content_type
            clear_handshake = kind == _HANDSHAKE and (one.decrypted or tls13 or one.side not in changed)
            if kind == _CHANGE:
                changed.add(one.side)
            if kind == _ALERT or clear_handshake or (one.decrypted and kind == _DATA):
                continue
            yield one.side, steps.of_record(kind)
    for end in ends:
        yield from _end(end)


def _end(end: Ended) -> Iterator[tuple[Side, Event]]:
    if end.how is Ending.FIN:
        yield end.side, Event.END
    elif end.how is Ending.RESET:
        yield end.side, Event.RESET
