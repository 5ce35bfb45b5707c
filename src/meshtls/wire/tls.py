"""TLS's own bytes, as far as they are read and written here: first records, alerts, two messages. Pure.

OpenSSL speaks TLS for us. These are the places where we have to read or write some of it ourselves: to tell TLS from
plaintext, to send an alert where OpenSSL sends none, to verify a peer's certificates within its handshake, and to know
the name that a client asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum

__all__ = [
    "IMPOSSIBLE_KEY_UPDATE",
    "INTERNAL_ERROR_ALERT",
    "MAX_RECORD",
    "TLS_1_3",
    "Alert",
    "ContentType",
    "FirstBytes",
    "HandshakeType",
    "alert_for",
    "alert_name",
    "certificates_of_message",
    "client_random_of_message",
    "fatal_alert",
    "first_bytes_of",
    "server_name_of_message",
]

#: The most plaintext that one record holds, in bytes (RFC 8446, section 5.1).
MAX_RECORD = 1 << 14
TLS_1_3 = 0x0304

#: The version that every record claims (RFC 8446, section 5.1), and how much longer than its plaintext a record of
#: TLS 1.3 may be (section 5.2).
_LEGACY_VERSION = b"\x03\x03"
_EXPANSION = 256
_FATAL = 2


class ContentType(IntEnum):
    """What a record carries (RFC 8446, section 5.1)."""

    ALERT = 21
    HANDSHAKE = 22


class HandshakeType(IntEnum):
    """The handshake messages that are known here (RFC 8446, section 4)."""

    CLIENT_HELLO = 1
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    KEY_UPDATE = 24


class Alert(IntEnum):
    """All alerts by their names (RFC 8446, section 6; RFC 5246, section 7.2; RFC 7301, section 3.2)."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


_ALERT_NAMES: Mapping[int, str] = {one: one.name.lower() for one in Alert}


def alert_name(number: int) -> str:
    """The name of an alert as the standards write it, or its number."""
    return _ALERT_NAMES.get(number) or str(number)


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


def certificates_of_message(version: int, message: bytes, *, limit: int) -> list[bytes]:
    """The DER certificates of a Certificate handshake message (RFC 8446, section 4.4.2; RFC 5246, section 7.4.2).

    ``message`` includes the handshake header. ``limit`` is how many certificates are of interest: of a longer chain the
    first ``limit + 1`` are read and no more. Raises ValueError where the lengths don't add up.
    """
    at = 4
    if version >= TLS_1_3:
        _, at = _vector(message, at, 1)  # certificate_request_context
    start, end = _vector(message, at, 3)
    if end != len(message):
        raise ValueError("bytes after the certificate list")
    chain: list[bytes] = []
    at = start
    while at < end and len(chain) <= limit:
        start, at = _vector(message, at, 3)
        chain.append(message[start:at])
        if version >= TLS_1_3:
            _, at = _vector(message, at, 2)  # the entry's extensions
    return chain


def client_random_of_message(message: bytes) -> bytes:
    """The 32 random bytes of a ClientHello, which includes the handshake header (RFC 8446, section 4.1.2). Of a
    malformed one, which OpenSSL will refuse, what is there.
    """
    return bytes(message[6:38])


def server_name_of_message(message: bytes) -> str | None:
    """The host name that a ClientHello asks for (RFC 8446, section 4.1.2; RFC 6066, section 3), in lower case.

    ``message`` includes the handshake header. None where there is none, for a malformed ClientHello, which OpenSSL will
    refuse, and for a name that is not 1 to 255 printable ASCII characters.
    """
    try:
        at = 4 + 2 + 32  # the header, legacy_version, random
        for length_bytes in (1, 2, 1):  # legacy_session_id, cipher_suites, legacy_compression_methods
            _, at = _vector(message, at, length_bytes)
        at, end = _vector(message, at, 2)
        while at < end:
            kind = message[at : at + 2]
            start, at = _vector(message, at + 2, 2)
            if kind == _SERVER_NAME:
                # One host_name is all that a list can hold: there may be one of each kind, and no other was defined.
                list_start, _ = _vector(message, start, 2)
                if message[list_start : list_start + 1] != _HOST_NAME:
                    return None
                name_start, name_end = _vector(message, list_start + 1, 2)
                name = message[name_start:name_end]
                return name.decode().lower() if 0 < len(name) <= 255 and _PRINTABLE.issuperset(name) else None
    except ValueError:
        pass
    return None


_SERVER_NAME, _HOST_NAME = b"\0\0", b"\0"
_PRINTABLE = frozenset(range(0x21, 0x7F))


def _vector(data: bytes, at: int, length_bytes: int) -> tuple[int, int]:
    """Where the content of the vector at ``at`` starts and ends (RFC 8446, section 3.4)."""
    start = at + length_bytes
    end = start + int.from_bytes(data[at:start], "big")
    if len(data) < max(start, end):
        raise ValueError("a vector is longer than the message")
    return start, end
