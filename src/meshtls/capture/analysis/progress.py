"""How far a handshake came that was not finished: after which message, whose turn it was, and since when. Pure."""

from __future__ import annotations

from typing import NamedTuple

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.events import RecordSeen
from meshtls.capture.outside import OutsideView
from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType

__all__ = ["Progress", "progress_of"]

_DATA, _CHANGE = int(ContentType.APPLICATION_DATA), int(ContentType.CHANGE_CIPHER_SPEC)
_ALERT = int(ContentType.ALERT)
_MS = 1e6


class Progress(NamedTuple):
    """How far a handshake came. ``after``: in words. ``turn``: "client" or "server", who has to send the next message.
    ``since_ms``: the time of the last record of either side, or of the first byte, since the first packet. ``cut``: the
    server's last record is not whole.
    """

    after: str
    turn: str
    since_ms: float
    cut: bool = False


def progress_of(session: TlsSession, view: OutsideView, begin_ns: int, first_ns: int, *, cut: bool) -> Progress:
    """``begin_ns``, ``first_ns``: when the first byte and the first packet were sent, since the epoch. ``cut``: the
    last record of the server is not whole.
    """
    alerts = set(view.alerts)
    records = [
        one
        for one in session.index.records.events
        if one.content_type != _ALERT and (one.side, one.offset) not in alerts
    ]
    since = max((one.time_ns for one in records), default=begin_ns)
    after, turn = _place(session, records)
    if cut:
        after, turn = f"{after} and a part of its next record", Side.SERVER
    return Progress(after, turn.value, (since - first_ns) / _MS, cut)


def _place(session: TlsSession, records: list[RecordSeen]) -> tuple[str, Side]:
    messages = [(one.side, one.kind) for one in session.index.messages]
    server = {kind for side, kind in messages if side is Side.SERVER}
    hellos = messages.count((Side.CLIENT, HandshakeType.CLIENT_HELLO))
    if not hellos:
        return "before a whole ClientHello", Side.CLIENT
    if not session.version:
        if session.retried and hellos == 1:
            return "after the server's HelloRetryRequest", Side.CLIENT
        return "after the ClientHello", Side.SERVER
    if session.version == TLS_1_3:
        whole = _flight_is_whole(session, records, server)
        return "after the server's ServerHello", Side.CLIENT if whole else Side.SERVER
    changed = {one.side for one in records if one.content_type == _CHANGE}
    if Side.CLIENT in changed:
        return "after the client's ChangeCipherSpec", Side.SERVER
    if Side.SERVER in changed:
        return "after the server's ChangeCipherSpec", Side.CLIENT
    if HandshakeType.SERVER_HELLO_DONE in server:
        return "after the server's ServerHelloDone", Side.CLIENT
    return "after the server's ServerHello", Side.SERVER


def _flight_is_whole(session: TlsSession, records: list[RecordSeen], server: set[int]) -> bool:
    """Whether the server's Finished was seen, or, encrypted, may have been."""
    if session.direction(Side.SERVER).decrypted:
        return HandshakeType.FINISHED in server
    aead = aead_of_suite(session.suite)
    if aead is None:
        return True
    sent = sum(one.length - aead.overhead for one in records if one.side is Side.SERVER and one.content_type == _DATA)
    return sent > aead.hash_bytes
