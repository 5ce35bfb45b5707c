"""What applications can have sent at most, where bytes of a TLS session are not in the capture. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.flow import Flow, Half
from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from meshtls.wire.tls import TLS_1_3, ContentType
from meshtls.wire.tls.records import RECORD_HEADER

__all__ = ["most_of_missing"]

_DATA = int(ContentType.APPLICATION_DATA)


def most_of_missing(
    flow: Flow, session: TlsSession, skipped: Mapping[Side, int], *, complete: bool
) -> Mapping[Side, int]:
    """The most application data that each side's missing bytes can be; empty where all records are known. ``skipped``:
    bytes before TLS. ``complete``: the handshake.

    A record that is cut is known by its length, unless its header is missing, too, or the capture does not show where
    the handshake ends. Then all counts that is not seen to be something else than application data.
    """
    ends = {half.side: half for half in flow.halves}
    missing = [side for side, half in ends.items() if half.lost_bytes or half.cut_bytes]
    unknown = [side for side in missing if _stream(ends[side], skipped) > session.direction(side).record_bytes]
    if not unknown and (complete or not missing):
        return {}
    overhead = RECORD_HEADER + _protection(session)
    most: dict[Side, int] = {}
    for side, half in ends.items():
        others = [
            one.length + RECORD_HEADER
            for one in session.index.records.events
            if one.side is side and (one.inner_type if one.decrypted else one.content_type) != _DATA
        ]
        rest = session.direction(side).records - len(others)
        most[side] = max(0, _stream(half, skipped) - sum(others) - overhead * rest)
    return most


def _protection(session: TlsSession) -> int:
    """The least bytes of a record's payload that are not application data."""
    aead = aead_of_suite(session.suite)
    if aead is None:
        return 0
    return aead.overhead if session.version == TLS_1_3 else aead.tag_bytes + aead.explicit_bytes


def _stream(half: Half, skipped: Mapping[Side, int]) -> int:
    """The bytes of TLS that a side sent, captured or not."""
    return half.bytes + half.lost_bytes - skipped.get(half.side, 0)
