"""Is it TLS? Told from the first bytes of a connection. Pure.

TLS opens with a handshake record (RFC 8446, section 5.1): type 22, then a legacy version whose major number is 3 and
whose minor number has to be ignored. No text protocol starts so, because byte 22 is a control character.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Wire", "alert_for", "wire_of"]

_HANDSHAKE_RECORD = b"\x16\x03"
# alert(21), legacy version 3.3, two bytes: fatal(2) and the description (RFC 8446, sections 5.1 and 6).
_UNEXPECTED_MESSAGE = bytes((21, 3, 3, 0, 2, 2, 10))
_PROTOCOL_VERSION = bytes((21, 3, 3, 0, 2, 2, 70))


class Wire(Enum):
    """What the first bytes say."""

    TLS = "TLS"
    PLAINTEXT = "plaintext"
    UNDECIDED = "undecided"


def wire_of(first: bytes) -> Wire:
    """Judge the bytes that came so far, two at most are needed."""
    if not _HANDSHAKE_RECORD.startswith(first[:2]):
        return Wire.PLAINTEXT
    return Wire.UNDECIDED if len(first) < len(_HANDSHAKE_RECORD) else Wire.TLS


def alert_for(first: bytes) -> bytes:
    """The alert for a peer that opened with a record of TLS that can't be first, or with a ClientHello of SSL 2.0.

    Empty for any other plaintext, whose protocol has no use for one.
    """
    if first[:1] < b"\x80" and first[1:2] == b"\x03":
        return _UNEXPECTED_MESSAGE
    if first[:1] >= b"\x80" and first[2:3] == b"\x01":
        return _PROTOCOL_VERSION
    return b""
