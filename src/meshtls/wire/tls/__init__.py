"""TLS's own bytes: what the sidecar reads and writes of them itself, and the decoder of records and messages. Pure.

OpenSSL speaks TLS for us. What this package exports are the places where we read or write some of it ourselves: to
tell TLS from plaintext, to send an alert where OpenSSL sends none, to verify a peer's certificates within its
handshake, and to know the name that a client asked for. The decoder, for people who read a handshake, is in modules of
its own, which a sidecar does not load.
"""

from __future__ import annotations

from meshtls.wire.tls.first import (
    IMPOSSIBLE_KEY_UPDATE,
    INTERNAL_ERROR_ALERT,
    MAX_RECORD,
    FirstBytes,
    alert_for,
    fatal_alert,
    first_bytes_of,
)
from meshtls.wire.tls.glances import (
    alpn_of_message,
    certificates_of_message,
    client_random_of_message,
    server_name_of_message,
)
from meshtls.wire.tls.names import TLS_1_3, Alert, ContentType, HandshakeType, alert_name

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
    "alpn_of_message",
    "certificates_of_message",
    "client_random_of_message",
    "fatal_alert",
    "first_bytes_of",
    "server_name_of_message",
]
