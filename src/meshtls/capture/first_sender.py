"""Which end of a connection is the client, by the first bytes that one end sends, where no SYN was captured. Pure.

Only bytes that one of the two never sends count. In the middle of a connection there are seldom any.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.wire.http1.start import HttpStart, http_start_of
from meshtls.wire.http2.frames import HEADER_BYTES, may_begin_settings
from meshtls.wire.proxy_protocol import LOCAL_HEADER
from meshtls.wire.tls.names import HandshakeType

__all__ = ["FIRST_BYTES", "begins_connection", "begins_stream", "client_is_sender"]

#: How many bytes are looked at.
FIRST_BYTES = 1024
_RECORD = b"\x16\x03"
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
#: Handshake messages that are sent in clear, in TLS 1.2 and 1.3: whether the client sends them.
_BY_CLIENT: Mapping[int, bool] = {
    HandshakeType.CLIENT_HELLO: True,
    HandshakeType.CLIENT_KEY_EXCHANGE: True,
    HandshakeType.SERVER_HELLO: False,
    HandshakeType.NEW_SESSION_TICKET: False,
    HandshakeType.SERVER_KEY_EXCHANGE: False,
    HandshakeType.CERTIFICATE_REQUEST: False,
    HandshakeType.SERVER_HELLO_DONE: False,
}
_HELLOS = (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO)
_STATUS_LINE = b"HTTP/1."
_PROXY = (b"PROXY TCP", LOCAL_HEADER[:12])


def client_is_sender(first: bytes) -> bool | None:
    """Whether the client sent these bytes; None if both ends may.

    The client: a TLS ClientHello, HTTP/2's preface, a request of HTTP/1, a PROXY protocol header. The server: a
    ServerHello, a status line of HTTP/1, SETTINGS as the first frame of HTTP/2 (RFC 9113, section 3.4). The messages
    that follow a Hello in clear count as well.
    """
    if first.startswith(_RECORD):
        return _of_record(first)
    if first.startswith(_STATUS_LINE) or (len(first) >= HEADER_BYTES and may_begin_settings(first)):
        return False
    begins = first.startswith(_PROXY)
    return True if begins or http_start_of(first) in (HttpStart.HTTP1, HttpStart.HTTP2) else None


def begins_stream(first: bytes) -> bool:
    """Whether these are bytes with which one side begins to speak: a Hello of TLS, HTTP/2's preface or SETTINGS, a
    PROXY protocol header, or a request or status line of HTTP/1, which may follow others."""
    if first.startswith(_RECORD):
        return _of_record(first) is not None and first[_RECORD_HEADER] in _HELLOS
    return client_is_sender(first) is not None


def begins_connection(first: bytes) -> bool:
    """Whether these are bytes that a client sends only first, at least of what is captured of a connection: a
    ClientHello, HTTP/2's preface or a PROXY protocol header. A request of HTTP/1 may follow others."""
    if first.startswith(_RECORD):
        return _of_record(first) is not None and first[_RECORD_HEADER] == HandshakeType.CLIENT_HELLO
    return first.startswith(_PROXY) or http_start_of(first) is HttpStart.HTTP2


def _of_record(first: bytes) -> bool | None:
    message = first[_RECORD_HEADER : _RECORD_HEADER + _MESSAGE_HEADER]
    if len(message) < _MESSAGE_HEADER or message[1]:
        return None  # an encrypted record begins with anything; no such message is longer than 64 KiB
    return _BY_CLIENT.get(message[0])
