"""What a server has selected: by its ServerHello (RFC 8446, section 4.1.3) and its EncryptedExtensions. Pure."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from meshtls.wire.tls.messages import HELLO_RETRY_REQUEST, is_hello_retry_request
from meshtls.wire.tls.names import Extension, HandshakeType
from meshtls.wire.tls.reading import vector

__all__ = ["ServerHelloFacts", "accepts_early_data", "choices_of_message", "server_hello_facts"]

_HEADER, _VERSION, _RANDOM = 4, 2, 32
_SESSION_ID = _HEADER + _VERSION + _RANDOM
_SERVER_HELLO = HandshakeType.SERVER_HELLO.to_bytes(1, "big")
_EXTENSION = Struct(">HH")
_VERSIONS, _PSK = int(Extension.SUPPORTED_VERSIONS), int(Extension.PRE_SHARED_KEY)
_ALPN, _KEY_SHARE = int(Extension.ALPN), int(Extension.KEY_SHARE)
_ENCRYPT_THEN_MAC = 22  # RFC 7366


class ServerHelloFacts(NamedTuple):
    """What decides how the records after it are protected.

    ``psk``: a pre-shared key was accepted, so the session is resumed or has an external key.
    ``encrypt_then_mac``: the extension of RFC 7366 was accepted.
    """

    version: int
    random: bytes
    suite: int
    retry: bool
    psk: bool
    encrypt_then_mac: bool = False


def server_hello_facts(message: bytes) -> ServerHelloFacts:
    """What a ServerHello says. ``message`` includes the handshake header. Raises ValueError if it ends early or its
    lengths don't add up.
    """
    at = _HEADER + _VERSION
    version = int.from_bytes(message[_HEADER:at], "big")
    random = message[at : at + _RANDOM]
    _, at = vector(message, at + _RANDOM, 1)  # legacy_session_id_echo
    suite = int.from_bytes(message[at : at + 2], "big")
    at += 3  # and legacy_compression_method
    if len(message) < at:
        raise ValueError("the message ends within its fields")
    psk = encrypt_then_mac = False
    if at < len(message):
        at, end = vector(message, at, 2)
        while at < end:
            kind = int.from_bytes(message[at : at + 2], "big")
            start, at = vector(message, at + 2, 2)
            if kind == _VERSIONS and at - start == 2:
                version = int.from_bytes(message[start:at], "big")
            elif kind == _PSK:
                psk = True
            elif kind == _ENCRYPT_THEN_MAC:
                encrypt_then_mac = True
    return ServerHelloFacts(version, random, suite, random == HELLO_RETRY_REQUEST, psk, encrypt_then_mac)


def accepts_early_data(message: bytes) -> bool:
    """Whether these EncryptedExtensions accept early data (RFC 8446, section 4.2.10); not where they are malformed.

    ``message`` includes the handshake header.
    """
    at = _HEADER + 2
    while at + 4 <= len(message):
        kind, length = _EXTENSION.unpack_from(message, at)
        if kind == Extension.EARLY_DATA:
            return True
        at += 4 + length
    return False


def choices_of_message(message: bytes) -> tuple[int | None, bytes]:
    """What the server has selected in a ServerHello or in EncryptedExtensions: the group of its key share (RFC 8446,
    section 4.2.8), and the protocol (RFC 7301, section 3.1).

    ``message`` includes the handshake header. None and b"" where there is none: a HelloRetryRequest has no key share.
    Of a malformed message, what stands before the fault; of an extension that comes twice, the first.
    """
    at, size = _HEADER, len(message)
    is_hello = message[:1] == _SERVER_HELLO
    if is_hello:
        if size <= _SESSION_ID:
            return None, b""
        at = _SESSION_ID + 1 + message[_SESSION_ID] + 3  # legacy_session_id_echo; cipher_suite and compression method
    end = min(size, at + 2 + int.from_bytes(message[at : at + 2], "big"))
    at += 2
    group: int | None = None
    protocol = b""
    wants_protocol, wants_group = True, is_hello and not is_hello_retry_request(message)
    while at + 4 <= end:
        kind, length = _EXTENSION.unpack_from(message, at)
        start = at + 4
        at = start + length
        if kind == _ALPN and wants_protocol:
            wants_protocol = False
            content = message[start : min(at, end)]
            listed = content[2 : 2 + int.from_bytes(content[:2], "big")]
            name_end = 1 + int.from_bytes(listed[:1], "big")
            protocol = listed[1:name_end] if name_end <= len(listed) else b""
        elif kind == _KEY_SHARE and wants_group:
            wants_group = False
            if min(at, end) - start >= 2:
                group = int.from_bytes(message[start : start + 2], "big")
    return group, protocol
