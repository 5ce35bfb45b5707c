"""The first bytes of a connection, and the alert that answers them where TLS can't start. Pure."""

from __future__ import annotations

from enum import Enum

from meshtls.wire.tls.names import Alert, ContentType, HandshakeType

__all__ = [
    "IMPOSSIBLE_KEY_UPDATE",
    "INTERNAL_ERROR_ALERT",
    "MAX_RECORD",
    "FirstBytes",
    "alert_for",
    "fatal_alert",
    "first_bytes_of",
]

#: The most plaintext that one record holds, in bytes (RFC 8446, section 5.1).
MAX_RECORD = 1 << 14

#: The version that every record claims (RFC 8446, section 5.1), and how much longer than its plaintext a record of
#: TLS 1.3 may be (section 5.2).
_LEGACY_VERSION = b"\x03\x03"
_EXPANSION = 256
_FATAL = 2


def fatal_alert(alert: Alert) -> bytes:
    """A whole plaintext record with this alert: it needs no keys, so it can only be sent before a handshake has any."""
    return bytes((ContentType.ALERT, *_LEGACY_VERSION, 0, 2, _FATAL, alert))


#: For a listener that has no certificate to shake hands with.
INTERNAL_ERROR_ALERT = fatal_alert(Alert.INTERNAL_ERROR)
_UNEXPECTED_MESSAGE_ALERT = fatal_alert(Alert.UNEXPECTED_MESSAGE)
_PROTOCOL_VERSION_ALERT = fatal_alert(Alert.PROTOCOL_VERSION)

#: A KeyUpdate during the handshake, padded past any partial record: fed to OpenSSL it makes it send an
#: unexpected_message alert, which ``ssl`` has no call for.
IMPOSSIBLE_KEY_UPDATE = bytes(
    (ContentType.HANDSHAKE, *_LEGACY_VERSION, 0, 4, HandshakeType.KEY_UPDATE, 0, 0, 0)
) + bytes(MAX_RECORD + _EXPANSION)


class FirstBytes(Enum):
    """What the first bytes of a connection show."""

    TLS = "TLS"
    PLAINTEXT = "plaintext"
    UNDECIDED = "undecided"


#: TLS opens with a handshake record (RFC 8446, section 5.1): its type, then a legacy version with the major number 3
#: and a minor number that has to be ignored. No text protocol starts so: byte 22 is a control character.
_CLIENT_HELLO_STARTS = bytes((ContentType.HANDSHAKE, 3))


def first_bytes_of(first: bytes) -> FirstBytes:
    """What the bytes received so far show; two are enough."""
    if not _CLIENT_HELLO_STARTS.startswith(first[:2]):
        return FirstBytes.PLAINTEXT
    return FirstBytes.UNDECIDED if len(first) < len(_CLIENT_HELLO_STARTS) else FirstBytes.TLS


def alert_for(first: bytes) -> bytes:
    """The alert for a peer whose first record is one of TLS that can't be first, or a ClientHello of SSL 2.0.

    Empty for any other plaintext, whose protocol has no use for an alert. Three bytes are enough.
    """
    if first[:1] < b"\x80" and first[1:2] == b"\x03":
        return _UNEXPECTED_MESSAGE_ALERT
    if first[:1] >= b"\x80" and first[2:3] == b"\x01":
        return _PROTOCOL_VERSION_ALERT
    return b""
