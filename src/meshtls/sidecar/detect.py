"""Is it TLS? Told from the first bytes of a connection. Pure.

TLS opens with a handshake record (RFC 8446, section 5.1): type 22, then the legacy version, 3.0 to 3.4. No text
protocol starts so, because byte 22 is a control character.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Wire", "wire_of"]

_HANDSHAKE_RECORD = b"\x16\x03"
_HIGHEST_MINOR = 4
_DECIDED_AT = 3


class Wire(Enum):
    """What the first bytes say."""

    TLS = "TLS"
    PLAINTEXT = "plaintext"
    UNDECIDED = "undecided"


def wire_of(first: bytes) -> Wire:
    """Judge the bytes that came so far, three at most are needed."""
    if not _HANDSHAKE_RECORD.startswith(first[:2]):
        return Wire.PLAINTEXT
    if len(first) < _DECIDED_AT:
        return Wire.UNDECIDED
    return Wire.TLS if first[2] <= _HIGHEST_MINOR else Wire.PLAINTEXT
