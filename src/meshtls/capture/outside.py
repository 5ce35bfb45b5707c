"""What can be known of a TLS connection from outside: resumption, client certificates, alerts, lengths. Pure.

TLS 1.2 shows its certificates. In TLS 1.3 all after the ServerHello is encrypted, and what is left are the lengths of
records. A length is evidence and no proof, since records may be padded (RFC 8446, section 5.4): it never becomes more
than ``likely``.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.event_index import EventIndex
from meshtls.capture.events import UNKNOWN
from meshtls.capture.padding import is_padded
from meshtls.capture.session import TlsSession
from meshtls.wire.side import CLIENT, SERVER, SIDES, Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType, certificates_of_message
from meshtls.wire.tls.compression import decompressed_certificate
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.reading import DecodeError

__all__ = ["Answer", "OutsideView", "outside_view"]

_APPLICATION_DATA, _CHANGE_CIPHER_SPEC = int(ContentType.APPLICATION_DATA), int(ContentType.CHANGE_CIPHER_SPEC)
_HANDSHAKE = int(ContentType.HANDSHAKE)
_ALERT = int(ContentType.ALERT)
#: Bytes of an alert, and of a Certificate message of TLS 1.3 without a certificate.
_ALERT_BYTES, _EMPTY_CERTIFICATE = 2, 8
_MOST_FLIGHT = 64
_NOBODY: frozenset[Side] = frozenset()
#: What the server sends after a CertificateRequest, if it sends one.
_AFTER_REQUEST = (HandshakeType.SERVER_HELLO_DONE, HandshakeType.FINISHED)
_HELLOS = ((CLIENT, HandshakeType.CLIENT_HELLO), (SERVER, HandshakeType.SERVER_HELLO))
_EXTERNAL = "a pre-shared key was used, which seems not to be of an earlier session: it takes the place of certificates"
_RENEGOTIATED = (
    "an encrypted handshake followed the first one, in which the server may have asked for a certificate, and the"
    " client may have sent one"
)


class Answer(Enum):
    """An answer that may not be there."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class OutsideView(NamedTuple):
    """What is known, and from what.

    - ``resumed``: by an accepted pre-shared key of TLS 1.3, or a handshake of TLS 1.2 without certificates. UNKNOWN
      where the key may be one that was established externally.
    - ``mutual``: whether the client sent a certificate. UNKNOWN where nobody without keys can know;
      ``likely`` is then what the lengths of records suggest. ``evidence`` has the reason in words.
    - ``alerts``: encrypted records that are, or have the length of, an alert: the side, and the offset in its bytes.
    - ``renegotiation``: encrypted messages of a further handshake of TLS 1.2 were seen of these sides.
    - ``flights``: lengths of the encrypted records of the server's, and of the client's, first flight.
    """

    resumed: Answer
    mutual: Answer
    likely: Answer
    evidence: str
    alerts: tuple[tuple[Side, int], ...]
    flights: tuple[tuple[int, ...], tuple[int, ...]]
    renegotiation: frozenset[Side] = frozenset()


def outside_view(session: TlsSession) -> OutsideView:
    """The view of a session whose bytes were fed so far."""
    index = session.index
    flights = _flights(index) if session.version == TLS_1_3 else ((), ())
    resumed = _resumed(session, index)
    again = frozenset(side for side in SIDES if _renegotiates(index, side)) if session.version != TLS_1_3 else _NOBODY
    mutual, likely, evidence = _mutual(session, index, resumed, flights[1])
    if mutual is Answer.NO and len(again) == len(SIDES):
        mutual, likely, evidence = Answer.UNKNOWN, Answer.UNKNOWN, _RENEGOTIATED
    return OutsideView(resumed, mutual, likely, evidence, _alerts(session, index), flights, again)


def _resumed(session: TlsSession, index: EventIndex) -> Answer:
    if not session.version:
        return Answer.UNKNOWN
    if session.version == TLS_1_3:
        return Answer.NO if not session.psk else Answer.UNKNOWN if _may_be_external(session, index) else Answer.YES
    if (SERVER, HandshakeType.SERVER_HELLO_DONE) in index.last:
        return Answer.NO
    changed = any(one.content_type == _CHANGE_CIPHER_SPEC for one in index.others[SERVER].events)
    return Answer.YES if changed else Answer.UNKNOWN


def _may_be_external(session: TlsSession, index: EventIndex) -> bool:
    """Whether the accepted pre-shared key of TLS 1.3 is of no earlier session: one that was established externally has
    a ticket age of 0 (RFC 8446, section 4.2.11).
    """
    hello, answer = (index.last.get(one) for one in _HELLOS)
    if hello is None or answer is None:
        return True
    path = ("extensions", "pre_shared_key")
    selected = decode_message(answer.kind, answer.data, session.version).child(*path, "selected_identity")
    offered = decode_message(hello.kind, hello.data, session.version).child(*path, "identities")
    ages = [one.child("obfuscated_ticket_age") for one in offered.children if one.children] if offered else []
    number = selected.value if selected is not None else None
    age = ages[number] if isinstance(number, int) and number < len(ages) else None
    return age is None or age.value == 0


def _mutual(
    session: TlsSession, index: EventIndex, resumed: Answer, lengths: tuple[int, ...]
) -> tuple[Answer, Answer, str]:
    if not session.version:
        return Answer.UNKNOWN, Answer.UNKNOWN, "no ServerHello was seen"
    if resumed is Answer.YES:
        return Answer.UNKNOWN, Answer.UNKNOWN, "the session is resumed: certificates were sent in an earlier connection"
    if session.version == TLS_1_3 and session.psk:
        return Answer.UNKNOWN, Answer.UNKNOWN, _EXTERNAL
    certificate = index.last.get((CLIENT, HandshakeType.CERTIFICATE))
    if certificate is not None:
        try:
            chain = certificates_of_message(session.version, certificate.data, limit=1)
        except ValueError:
            return Answer.UNKNOWN, Answer.UNKNOWN, "the client's Certificate message is malformed"
        if chain:
            return Answer.YES, Answer.YES, "the client sent a certificate"
        return Answer.NO, Answer.NO, "the client was asked for a certificate and sent none"
    compressed = index.last.get((CLIENT, HandshakeType.COMPRESSED_CERTIFICATE))
    if compressed is not None:
        problem = decompressed_certificate(compressed.data)
        why = problem.text if isinstance(problem, DecodeError) else ""
        return Answer.UNKNOWN, Answer.YES, f"the client's certificate is compressed, and can't be read: {why}"
    asked = (SERVER, HandshakeType.CERTIFICATE_REQUEST) in index.last
    if not asked and any((SERVER, kind) in index.last for kind in _AFTER_REQUEST):
        return Answer.NO, Answer.NO, "the server asked for no certificate"
    if session.version == TLS_1_3 and not asked:
        return Answer.UNKNOWN, *_by_lengths(session, index, lengths)
    return Answer.UNKNOWN, Answer.UNKNOWN, "the handshake was not seen to the client's certificate"


def _by_lengths(session: TlsSession, index: EventIndex, lengths: tuple[int, ...]) -> tuple[Answer, str]:
    """What the client's first encrypted records suggest: its Finished alone, or a Certificate before it."""
    aead = aead_of_suite(session.suite)
    if aead is None or not lengths:
        return Answer.UNKNOWN, "nothing encrypted was seen of the client"
    first, overhead = lengths[0], aead.overhead
    finished = aead.finished_bytes
    shown = f"the client's first encrypted record has {first} bytes"
    if first == _ALERT_BYTES + overhead:
        return Answer.UNKNOWN, f"{shown}, the length of an alert"
    if first == finished + overhead:
        return Answer.NO, f"{shown}, the length of a Finished alone"
    if first in (_EMPTY_CERTIFICATE + overhead, _EMPTY_CERTIFICATE + finished + overhead):
        return Answer.NO, f"{shown}, the length of a Certificate message without a certificate"
    if is_padded([one.length for one in index.data[CLIENT].events[_early(index, CLIENT) :]], aead):
        return Answer.UNKNOWN, f"{shown}, and its records look padded: their lengths show nothing"
    if first > _EMPTY_CERTIFICATE + finished + overhead:
        return Answer.YES, f"{shown}: room for a certificate before its Finished"
    return Answer.UNKNOWN, f"{shown}, the length of no message that is expected"


def _renegotiates(index: EventIndex, side: Side) -> bool:
    """Whether it sent encrypted messages of a handshake of TLS 1.2 after its Finished (RFC 5246, section 7.4.1)."""
    kinds = [(one.content_type, one.decrypted) for one in index.others[side].events]
    changed = kinds.index((_CHANGE_CIPHER_SPEC, False)) if (_CHANGE_CIPHER_SPEC, False) in kinds else len(kinds)
    return kinds[changed:].count((_HANDSHAKE, False)) > 1


def _early(index: EventIndex, side: Side) -> int:
    """How many records with application data it sent before the ServerHello."""
    hello = index.before_hello
    if not hello:
        return 0
    return len(index.data[side].between(0, index.records.numbers[hello - 1]))


def _flights(index: EventIndex) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lengths of encrypted records from the ServerHello on: of the server until the client's first, of the client until
    the server's next.
    """
    server: list[int] = []
    client: list[int] = []
    if index.before_hello is None:
        return (), ()
    by_server = SERVER
    for one in index.records.events[index.before_hello :]:
        if one.content_type == _APPLICATION_DATA:
            if one.side is by_server:
                if client:
                    break
                server.append(one.length)
            else:
                client.append(one.length)
            if len(server) >= _MOST_FLIGHT or len(client) >= _MOST_FLIGHT:
                break
    # After early data the client's next records may be the rest of it.
    return tuple(server), () if _early(index, CLIENT) else tuple(client)


def _alerts(session: TlsSession, index: EventIndex) -> tuple[tuple[Side, int], ...]:
    aead = aead_of_suite(session.suite) if session.version == TLS_1_3 else None
    shaped = _ALERT_BYTES + aead.overhead if aead is not None else UNKNOWN
    return tuple(
        [
            (one.side, one.offset)
            for one in index.records.events
            if (one.length == shaped and one.content_type == _APPLICATION_DATA and not one.decrypted)
            or (one.content_type == _ALERT and one.length > _ALERT_BYTES and not one.decrypted)
        ]
    )
