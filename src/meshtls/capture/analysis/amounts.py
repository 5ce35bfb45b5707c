"""How many bytes of application data a TLS session carried: counted where decrypted, else from record lengths. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from meshtls.capture.aead import SuiteAead, aead_of_suite
from meshtls.capture.analysis.completion import Completion, may_be_ticket
from meshtls.capture.analysis.server_data import Tickets
from meshtls.capture.outside import OutsideView
from meshtls.capture.padding import has_short_message, is_padded
from meshtls.capture.session import TlsSession
from meshtls.wire.side import CLIENT, SERVER, SIDES, Side
from meshtls.wire.tls import TLS_1_3, ContentType
from meshtls.wire.tls.records import RECORD_HEADER
from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = ["Amounts", "application_bytes"]

_DATA = int(ContentType.APPLICATION_DATA)
_TLS_1_0 = 0x0301
#: Of TLS 1.3, where the suite is unknown here: a tag, and the content type inside.
_USUAL_OVERHEAD = 17
_ALERT_BYTES, _END_OF_EARLY_DATA = 2, 4
#: Of suites with a GCM that is not decrypted here, such as ARIA's: the nonce's explicit part, and the tag.
_GCM_OVERHEAD = 24
_MAC_BYTES = {"MD5": 16, "SHA": 20, "SHA256": 32, "SHA384": 48}
_SHORT_BLOCKS = frozenset({"3DES", "DES", "DES40", "IDEA", "RC2"})


class Amounts(NamedTuple):
    """Bytes of application data of each side.

    - ``estimated``: some of them are computed from lengths of encrypted records.
    - ``at_most``: all records of a side look padded, or those of its application data. Padding is counted, and where
      the handshake is padded, so are session tickets, which can't be told from data then: the applications sent no more
      than this. Or a record of the server that is not decrypted may
      be a session ticket, and is counted: a single one, or, with keys, one that is cut or can't be decrypted.
    """

    of: Mapping[Side, int]
    estimated: bool = False
    at_most: bool = False


def application_bytes(session: TlsSession, view: OutsideView, done: Completion | None, tickets: Tickets) -> Amounts:
    """Count them; ``done``: when the handshake was complete.

    A record's length has the padding of TLS 1.3 in it, and the padding of a CBC suite, of which the mean is assumed.
    Early data counts where the server accepted it: what it rejects it does not deliver (RFC 8446, section 4.2.10).
    """
    found = {side: session.direction(side).application_bytes for side in SIDES}
    tls13 = session.version == TLS_1_3
    if tls13 and done is None:
        return Amounts(found)
    after = done.until if tls13 and done is not None else 0
    index, estimated, cut_tickets, padded = session.index, False, False, False
    for side in SIDES:
        # After a gap the rest of a flight may be read late.
        sent = index.data[side].between(max(after, index.finished.get(side, 0)))
        lengths = [one.length for one in sent if not one.decrypted]
        if not lengths:
            continue
        estimated = True
        if not tls13:
            # The payloads of all of them are counted already.
            opaque = len(lengths) if session.direction(side).decrypted else _data_records(session, side)
            found[side] = max(0, found[side] - _overhead_1_2(session) * opaque)
        elif session.direction(side).decrypted:
            alerts = {offset for of, offset in view.alerts if of is side}
            lengths = [one.length for one in sent if not one.decrypted and one.offset not in alerts]
            found[side] += max(0, sum(lengths) - _overhead_1_3(session) * len(lengths))
            cut_tickets = cut_tickets or (side is SERVER and _may_lack_tickets(session, after))
        elif done is not None:
            found[side] = _estimated_1_3(session, view, side, done, tickets)
            padded = padded or _data_looks_padded(session, view, side, done, tickets)
    if not tls13 or done is None:
        return Amounts(found, estimated)
    early = _early_data(session, done)
    found[CLIENT] += early
    bounds = _bounds_of_padded(session, view) if done.inferred else {}
    at_most = (
        cut_tickets or padded or bool(bounds) or (tickets.may_count_one and _all_are_counted(session, done, early))
    )
    return Amounts(found | bounds, estimated or early > 0 or bool(bounds), at_most)


def _may_lack_tickets(session: TlsSession, after: int) -> bool:
    """Whether a record of the server that is not decrypted may be a session ticket. These come after event number
    ``after``, before its application data.
    """
    aead, index = aead_of_suite(session.suite), session.index
    application = zip(index.application.numbers, index.application.events, strict=True)
    first = next((number for number, one in application if one.side is SERVER), None)
    records = index.data[SERVER].between(after, first)
    return aead is not None and any(not one.decrypted and may_be_ticket(one, aead) for one in records)


def _all_are_counted(session: TlsSession, done: Completion, early: int) -> bool:
    """Whether no early data was left out that may have been accepted, of a server whose records are encrypted."""
    if session.direction(SERVER).decrypted:
        return False
    # In a resumed session the client's flight is its Finished.
    return session.early_accepted is False or early > 0 or len(session.index.data[CLIENT].between(0, done.at)) <= 1


def _bounds_of_padded(session: TlsSession, view: OutsideView) -> dict[Side, int]:
    """What each side whose records all look padded, those of the handshake included, can have sent at most."""
    aead = aead_of_suite(session.suite)
    if aead is None:
        return {}
    return {
        side: most
        for side, flight in zip((SERVER, CLIENT), view.flights, strict=True)
        if not session.direction(side).decrypted and not has_short_message(flight, aead)
        if (most := _bound(session, side, aead)) is not None
    }


def _bound(session: TlsSession, side: Side, aead: SuiteAead) -> int | None:
    """None where the records don't look padded. Else the content of all that the side encrypted after the first record
    that the client encrypted in answer to the server; and of early data, if the server may have accepted that.
    """
    begun = answered = False
    may_be_early = side is CLIENT and session.early_accepted is not False
    lengths: list[int] = []
    before: list[int] = []
    for one in session.index.records.events:
        encrypted = one.content_type == _DATA
        answered = answered or (encrypted and one.side is SERVER)
        begins = not begun and answered and encrypted and one.side is CLIENT
        if one.side is side and encrypted and answered:
            lengths.append(one.length)
        if one.side is side and not begun and (begins or not (encrypted and may_be_early)):
            before.append(one.length)
        begun = begun or begins
    if not is_padded(lengths, aead):
        return None
    whole = session.direction(side)
    rest = whole.record_bytes - sum(before) - RECORD_HEADER * whole.records
    return max(0, rest - aead.overhead * (whole.records - len(before)))


def _data_looks_padded(session: TlsSession, view: OutsideView, side: Side, done: Completion, tickets: Tickets) -> bool:
    """Whether what a side sent after the handshake, without session tickets and alerts, looks padded. Requests that are
    alike have one length, which shows less than several do.
    """
    aead, alerts = aead_of_suite(session.suite), {offset for of, offset in view.alerts if of is side}
    late = tickets.late if side is SERVER else []
    sent = session.index.data[side].between(done.until)[len(late) :]
    return aead is not None and is_padded([*{one.length for one in sent if one.offset not in alerts}], aead)


def _early_data(session: TlsSession, done: Completion) -> int:
    """Early data that was accepted and not decrypted. Where EncryptedExtensions are encrypted, too, lengths tell of an
    EndOfEarlyData before the client's Finished, which the client sends only then (RFC 8446, section 4.5).
    """
    if session.early_accepted is False:
        return 0
    overhead = _overhead_1_3(session)
    records = session.index.data[CLIENT].between(0, done.at)
    sent = [one.length - overhead for one in records if not one.decrypted]
    if done.inferred:
        del sent[-1:]  # the Finished
    ended = sent[-1:] == [_END_OF_EARLY_DATA]
    if not ended and not session.early_accepted:
        return 0
    return max(0, sum(sent[:-1] if ended else sent))


def _overhead_1_3(session: TlsSession) -> int:
    aead = aead_of_suite(session.suite)
    return aead.overhead if aead is not None else _USUAL_OVERHEAD


def _estimated_1_3(session: TlsSession, view: OutsideView, side: Side, done: Completion, tickets: Tickets) -> int:
    """What a side sent after the handshake, without session tickets and alerts."""
    index, one = session.index, session.direction(side)
    seen = index.data[side].between(0, done.until) + index.others[side].between(0, done.until)
    if side is SERVER:
        seen += tickets.late
    after = one.record_bytes - RECORD_HEADER * one.records - sum([record.length for record in seen])
    alerts = [of for of, _ in view.alerts].count(side)
    return max(0, after - _overhead_1_3(session) * (one.records - len(seen)) - _ALERT_BYTES * alerts)


def _data_records(session: TlsSession, side: Side) -> int:
    """Records of application data of TLS 1.2: all but those of the handshake."""
    return max(0, session.direction(side).records - len(session.index.others[side].events))


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
