"""How many bytes of application data a TLS session carried: counted where decrypted, else from record lengths. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.analysis.completion import Completion
from meshtls.capture.analysis.server_data import late_tickets
from meshtls.capture.events import MessageSeen, RecordSeen
from meshtls.capture.outside import OutsideView
from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType
from meshtls.wire.tls.records import RECORD_HEADER
from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = ["application_bytes"]

_DATA = int(ContentType.APPLICATION_DATA)
_TLS_1_0 = 0x0301
#: Of TLS 1.3, where the suite is unknown here: a tag, and the content type inside.
_USUAL_OVERHEAD = 17
_ALERT_BYTES = 2
#: Of suites with a GCM that is not decrypted here, such as ARIA's: the nonce's explicit part, and the tag.
_GCM_OVERHEAD = 24
_MAC_BYTES = {"MD5": 16, "SHA": 20, "SHA256": 32, "SHA384": 48}
_SHORT_BLOCKS = frozenset({"3DES", "DES", "DES40", "IDEA", "RC2"})


def application_bytes(
    session: TlsSession, view: OutsideView, done: Completion | None
) -> tuple[Mapping[Side, int], bool]:
    """Bytes of application data of each side; and whether some of them are computed from lengths of encrypted records.

    A record's length has the padding of TLS 1.3 in it, and the padding of a CBC suite, of which the mean is assumed.
    """
    found = {side: session.direction(side).application_bytes for side in Side}
    tls13 = session.version == TLS_1_3
    if tls13 and done is None:
        return found, False
    after = done.until if tls13 and done is not None else 0
    hidden: list[RecordSeen] = []
    for one in session.events[after:]:
        if isinstance(one, RecordSeen) and one.content_type == _DATA and not one.decrypted:
            hidden.append(one)
        elif isinstance(one, MessageSeen) and one.kind == HandshakeType.FINISHED and one.decrypted:
            # After a gap the rest of a flight may be read late.
            hidden = [each for each in hidden if each.side is not one.side]
    for side in {one.side for one in hidden}:
        lengths = [one.length for one in hidden if one.side is side]
        if not tls13:
            # The payloads of all of them are counted already.
            opaque = len(lengths) if session.direction(side).decrypted else _data_records(session, side)
            found[side] = max(0, found[side] - _overhead_1_2(session) * opaque)
        elif session.direction(side).decrypted:
            found[side] += max(0, sum(lengths) - _overhead_1_3(session) * len(lengths))
        elif done is not None:
            found[side] = _estimated_1_3(session, view, side, done)
    return found, bool(hidden)


def _overhead_1_3(session: TlsSession) -> int:
    aead = aead_of_suite(session.suite)
    return aead.overhead if aead is not None else _USUAL_OVERHEAD


def _estimated_1_3(session: TlsSession, view: OutsideView, side: Side, done: Completion) -> int:
    """What a side sent after the handshake, without session tickets and alerts."""
    seen = [record for record in session.events[: done.until] if isinstance(record, RecordSeen)]
    before = [one.length + RECORD_HEADER for one in [*seen, *late_tickets(session, done)] if one.side is side]
    alerts = [of for of, _ in view.alerts].count(side)
    one = session.direction(side)
    rest = (one.records - len(before)) * (RECORD_HEADER + _overhead_1_3(session)) + _ALERT_BYTES * alerts
    return max(0, one.record_bytes - sum(before) - rest)


def _data_records(session: TlsSession, side: Side) -> int:
    """Records of application data of TLS 1.2: all but those of the handshake."""
    others = sum(
        isinstance(one, RecordSeen) and one.side is side and one.content_type != _DATA for one in session.events
    )
    return max(0, session.direction(side).records - others)


def _overhead_1_2(session: TlsSession) -> int:
    """Bytes of a record's payload that are not application data."""
    aead = aead_of_suite(session.suite)
    if aead is not None:
        return aead.tag_bytes + aead.explicit_bytes
    # Such as AES_128_CBC_SHA256 (RFC 5246, section 6.2.3.2).
    parts = CIPHER_SUITES.get(session.suite, "").rpartition("_WITH_")[2].split("_")
    mac = _MAC_BYTES.get(parts[-1], 0)
    if "GCM" in parts:
        return _GCM_OVERHEAD
    if "CBC" not in parts:
        return mac
    block = 8 if parts[0] in _SHORT_BLOCKS else 16
    iv = block if session.version > _TLS_1_0 else 0
    return iv + mac + block // 2
