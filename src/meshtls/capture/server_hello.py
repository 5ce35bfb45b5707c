"""What of a ServerHello decides how the records after it are protected (RFC 8446, section 4.1.3). Pure."""

from __future__ import annotations

from typing import NamedTuple

from meshtls.wire.tls.messages import HELLO_RETRY_REQUEST
from meshtls.wire.tls.names import Extension
from meshtls.wire.tls.reading import vector

__all__ = ["ServerHelloFacts", "server_hello_facts"]

_HEADER, _VERSION, _RANDOM = 4, 2, 32
_VERSIONS, _PSK = Extension.SUPPORTED_VERSIONS, Extension.PRE_SHARED_KEY
_ENCRYPT_THEN_MAC = 22  # RFC 7366


class ServerHelloFacts(NamedTuple):
    """``psk``: a pre-shared key was accepted, so the session is resumed or has an external key.
    ``encrypt_then_mac``: the extension of RFC 7366 was accepted.
    """

    version: int
    random: bytes
    suite: int
    retry: bool
    psk: bool
    encrypt_then_mac: bool = False


def server_hello_facts(message: bytes) -> ServerHelloFacts:
    """``message`` includes the handshake header. Raises ValueError if it ends early or its lengths don't add up."""
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
