"""The facts of a TLS session's handshake: what was negotiated, how long it took, and whether it was legal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from meshtls.capture.analysis.completion import Completion
from meshtls.capture.analysis.connection import Handshake
from meshtls.capture.analysis.orders import legal_in_another_order
from meshtls.capture.events import AlertSeen, ApplicationBytes, MessageSeen, RecordSeen
from meshtls.capture.flow import Ending
from meshtls.capture.outside import OutsideView
from meshtls.capture.server_hello import choices_of_message
from meshtls.capture.session import MOST_EVENTS, TlsSession
from meshtls.printable import printable
from meshtls.wire.side import CLIENT, SERVER, Side
from meshtls.wire.tls import (
    TLS_1_3,
    ContentType,
    HandshakeType,
    alpn_of_message,
    certificates_of_message,
    server_name_of_message,
)
from meshtls.wire.tls.messages import named_curve_of_message
from meshtls.wire.tls.names import GROUPS, VERSIONS, name_of
from meshtls.wire.tls.suites import CIPHER_SUITES
from meshtls.wire.tls_following import TlsStates
from meshtls.wire.tls_states import Event, State, Step
from meshtls.wire.tls_steps import TlsSteps

__all__ = ["Ended", "chain_of", "handshake_of"]

_MS = 1e6
_MOST_CHAIN = 16
#: More than the events of a session.
_NEVER = MOST_EVENTS << 1
#: Key exchanges of TLS 1.2, by parts of their names, whose messages the table of states leaves out.
_WITHOUT_CERTIFICATES = frozenset({"PSK", "anon", "SRP", "KRB5", "ECCPWD", "ECJPAKE"})
_CLIENT_HELLO, _SERVER_KEY_EXCHANGE = int(HandshakeType.CLIENT_HELLO), int(HandshakeType.SERVER_KEY_EXCHANGE)
_CERTIFICATE = int(HandshakeType.CERTIFICATE)
_WITH_CHOICES = (int(HandshakeType.SERVER_HELLO), int(HandshakeType.ENCRYPTED_EXTENSIONS))
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
    one = session.index.first.get((side, _CERTIFICATE))
    if one is None:
        return [], 0
    try:
        return certificates_of_message(session.version, one.data, limit=_MOST_CHAIN), one.time_ns
    except ValueError:
        return [], 0


def handshake_of(
    session: TlsSession, view: OutsideView, done: Completion | None, ended: Sequence[Ended], *, whole: bool
) -> Handshake:
    """The facts. ``whole``: the session was captured from its beginning, and nothing of it is lost."""
    hello = session.index.first.get((CLIENT, _CLIENT_HELLO))
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
        offered_alpn=tuple(map(_text, alpn_of_message(hello.data)[:16])) if hello is not None else (),
        mutual=view.mutual.value,
        mutual_likely=view.likely.value,
        mutual_reason=view.evidence,
        resumed=view.resumed.value,
        retried=session.retried,
        complete=done is not None,
        inferred=done is not None and done.inferred,
        ms=(done.time_ns - begin) / _MS if done is not None and begin is not None else None,
        round_trips=_round_trips(session, done) if done is not None and begin is not None else None,
        decrypted=session.direction(CLIENT).decrypted > 0 or session.direction(SERVER).decrypted > 0,
        state=state,
        legal=legal,
    )


def _negotiated(session: TlsSession) -> tuple[str, str]:
    """The group of the key exchange, and the protocol of ALPN."""
    group = alpn = ""
    for one in session.index.messages:
        if one.side is not SERVER:
            continue
        if one.kind in _WITH_CHOICES:
            number, protocol = choices_of_message(one.data)
            group = name_of(GROUPS, number) if number is not None else group
            alpn = _text(protocol) or alpn
        elif one.kind == _SERVER_KEY_EXCHANGE:
            curve = named_curve_of_message(one.data, session.suite)
            group = name_of(GROUPS, curve) if curve is not None else group
    return group, alpn


@lru_cache(maxsize=256)
def _text(value: bytes) -> str:
    """A protocol's name as text."""
    return printable(value[:255].decode("utf-8", "backslashreplace"))


def _round_trips(session: TlsSession, done: Completion) -> int:
    """How often the server answered the client until both had finished."""
    trips, last = 0, SERVER
    for one in session.index.records.between(0, done.at):
        if one.side is not last:
            trips += last is CLIENT
            last = one.side
    return trips


def _followed(session: TlsSession, ended: Sequence[Ended]) -> tuple[str, bool | None]:
    if session.version != TLS_1_3:
        exchange = CIPHER_SUITES.get(session.suite, "").partition("_WITH_")[0]
        if not _WITHOUT_CERTIFICATES.isdisjoint(exchange.split("_")):
            return "not followed: PSK or anonymous suite", None
    states, steps = TlsStates(), _steps(session, ended)
    illegal = states.follow(steps)
    if illegal is not None and legal_in_another_order(steps):
        return f"not judged: only the order of the two sides in the capture makes it illegal: {illegal}", None
    if illegal is not None:
        return f"illegal: {illegal}", False
    if states.state is State.START:
        return "", None
    return states.state.name, True


def _steps(session: TlsSession, ended: Sequence[Ended]) -> list[Step]:
    """What the two sides did, in the order of the capture."""
    read, found = TlsSteps(), list[Step]()
    changed: set[Side] = set()
    tls13 = session.version == TLS_1_3
    ends = list(ended) if not session.events_dropped else []
    until = ends[0].events if ends else _NEVER
    for at, one in enumerate(session.events):
        while at >= until:
            found += _end(ends.pop(0))
            until = ends[0].events if ends else _NEVER
        side = one.side
        if isinstance(one, RecordSeen):
            decrypted = one.decrypted
            kind = one.inner_type if decrypted else one.content_type
            if kind == _HANDSHAKE:
                if decrypted or tls13 or side not in changed:
                    continue  # its messages are told
            elif kind == _ALERT or (decrypted and kind == _DATA):
                continue
            elif kind == _CHANGE:
                changed.add(side)
            found.append((side, read.of_record(kind)))
        elif isinstance(one, MessageSeen):
            found += [(side, event) for event in read.of_message(side, one.data)]
        elif isinstance(one, ApplicationBytes):
            found.append((side, Event.APPLICATION_DATA))
        elif isinstance(one, AlertSeen):
            if one.description >= 0:
                found.append((side, read.of_alert(one.level, one.description)))
            elif not tls13:
                found.append((side, Event.ENCRYPTED_ALERT))
    for end in ends:
        found += _end(end)
    return found


def _end(end: Ended) -> list[Step]:
    if end.how is Ending.FIN:
        return [(end.side, Event.END)]
    return [(end.side, Event.RESET)] if end.how is Ending.RESET else []
