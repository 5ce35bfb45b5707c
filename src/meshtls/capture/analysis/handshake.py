"""The facts of a TLS session's handshake: what was negotiated, how long it took, and whether it was legal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from meshtls.capture.analysis.completion import Completion
from meshtls.capture.analysis.connection import Handshake
from meshtls.capture.analysis.orders import legal_in_another_order
from meshtls.capture.events import AlertSeen, ApplicationBytes, MessageSeen, RecordSeen
from meshtls.capture.flow import Ending
from meshtls.capture.outside import OutsideView
from meshtls.capture.server_hello import choices_of_message
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
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import GROUPS, VERSIONS, name_of
from meshtls.wire.tls.suites import CIPHER_SUITES
from meshtls.wire.tls_following import TlsStates
from meshtls.wire.tls_states import Event, State
from meshtls.wire.tls_steps import TlsSteps

__all__ = ["Ended", "chain_of", "handshake_of"]

_MS = 1e6
_MOST_CHAIN = 16
#: Key exchanges of TLS 1.2, by parts of their names, whose messages the table of states leaves out.
_WITHOUT_CERTIFICATES = frozenset({"PSK", "anon", "SRP", "KRB5", "ECCPWD", "ECJPAKE"})
_HANDSHAKE, _CHANGE = int(ContentType.HANDSHAKE), int(ContentType.CHANGE_CIPHER_SPEC)
_DATA, _ALERT = int(ContentType.APPLICATION_DATA), int(ContentType.ALERT)


class Ended(NamedTuple):
    """One side ended at ``time_ns``, when so many events of its session had been seen."""

    events: int
    side: Side
    how: Ending
    time_ns: int


def chain_of(session: TlsSession, side: Side) -> tuple[list[bytes], int]:
    """The first chain that ``side`` presented, leaf first, and when. Empty where none was seen."""
    for one in _messages(session):
        if one.side is side and one.kind == HandshakeType.CERTIFICATE:
            try:
                return certificates_of_message(session.version, one.data, limit=_MOST_CHAIN), one.time_ns
            except ValueError:
                return [], 0
    return [], 0


def handshake_of(
    session: TlsSession, view: OutsideView, done: Completion | None, ended: Sequence[Ended], *, whole: bool
) -> Handshake:
    """The facts. ``whole``: the session was captured from its beginning, and nothing of it is lost."""
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
        round_trips=_round_trips(session, done) if done is not None and begin is not None else None,
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
        if one.side is not Side.SERVER:
            continue
        if one.kind in (HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS):
            number, protocol = choices_of_message(one.data)
            group = name_of(GROUPS, number) if number is not None else group
            alpn = _text(protocol) or alpn
        elif one.kind == HandshakeType.SERVER_KEY_EXCHANGE:
            tree = decode_message(one.kind, one.data, session.version, suite=session.suite)
            curve = tree.child("named_curve")
            if curve is not None and isinstance(curve.value, int):
                group = name_of(GROUPS, curve.value)
    return group, alpn


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
    exchange = CIPHER_SUITES.get(session.suite, "").partition("_WITH_")[0]
    if session.version != TLS_1_3 and not _WITHOUT_CERTIFICATES.isdisjoint(exchange.split("_")):
        return "not followed: PSK or anonymous suite", None
    states, illegal = TlsStates(), ""
    for side, event in _events(session, ended):
        found = states.step(side, event)
        if found is not None:
            illegal = str(found)
            break
    if illegal and legal_in_another_order(_events(session, ended)):
        return f"not judged: only the order of the two sides in the capture makes it illegal: {illegal}", None
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
