"""The few things that a sidecar looks up in a handshake message, on its way into OpenSSL. Pure.

These run for each handshake, so they read no more than they need. ``messages.py`` decodes whole messages.
"""

from __future__ import annotations

import struct

from meshtls.wire.tls.names import TLS_1_3, Extension
from meshtls.wire.tls.reading import vector

__all__ = ["alpn_of_message", "certificates_of_message", "client_random_of_message", "server_name_of_message"]

_SERVER_NAME, _ALPN = int(Extension.SERVER_NAME), int(Extension.ALPN)
#: Where the session ID of a hello starts: after the header, legacy_version and random.
_SESSION_ID = 4 + 2 + 32
#: Of an extension: its type, and the length of its content.
_EXTENSION = struct.Struct(">HH").unpack_from
_HOST_NAME = b"\0"
_PRINTABLE = frozenset(range(0x21, 0x7F))


def certificates_of_message(version: int, message: bytes, *, limit: int) -> list[bytes]:
    """The DER certificates of a Certificate handshake message (RFC 8446, section 4.4.2; RFC 5246, section 7.4.2).

    ``message`` includes the handshake header. ``limit`` is how many certificates are of interest: of a longer chain the
    first ``limit + 1`` are read and no more. Raises ValueError where the lengths don't add up.
    """
    at = 4
    if version >= TLS_1_3:
        _, at = vector(message, at, 1)  # certificate_request_context
    start, end = vector(message, at, 3)
    if end != len(message):
        raise ValueError("bytes after the certificate list")
    chain: list[bytes] = []
    at = start
    while at < end and len(chain) <= limit:
        start, at = vector(message, at, 3)
        chain.append(message[start:at])
        if version >= TLS_1_3:
            _, at = vector(message, at, 2)  # the entry's extensions
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
        start = _extension(message, _SERVER_NAME)
        if start is None:
            return None
        # One host_name is all that a list can hold: there may be one of each kind, and no other was defined.
        list_start, _ = vector(message, start, 2)
        if message[list_start : list_start + 1] != _HOST_NAME:
            return None
        name_start, name_end = vector(message, list_start + 1, 2)
    except ValueError:
        return None
    name = message[name_start:name_end]
    return name.decode().lower() if 0 < len(name) <= 255 and _PRINTABLE.issuperset(name) else None


def alpn_of_message(message: bytes) -> tuple[bytes, ...]:
    """The protocols that a ClientHello offers (RFC 7301, section 3.1).

    ``message`` includes the handshake header. Empty where there are none, and for a malformed ClientHello.
    """
    names: list[bytes] = []
    try:
        start = _extension(message, _ALPN)
        if start is not None:
            at, end = vector(message, start, 2)
            while at < end:
                start, at = vector(message, at, 1)
                names.append(message[start:at])
    except ValueError:
        return ()
    return tuple(names)


def _extension(message: bytes, wanted: int) -> int | None:
    """Where the content of the extension of this kind starts, None where there is none.

    Raises ValueError where the lengths before it don't add up. Most hellos of the mesh do not have the one that is
    wanted, and are walked to the end: so the vectors are read as ``vector`` does it, without a call for each. A length
    that is cut off, or leads beyond the message, is an error of the next read.
    """
    size, header = len(message), _EXTENSION
    try:
        at = _SESSION_ID + 1 + message[_SESSION_ID]
        at += 2 + (message[at] << 8 | message[at + 1])  # cipher_suites
        at += 1 + message[at]  # legacy_compression_methods
        end = at + 2 + (message[at] << 8 | message[at + 1])
        at += 2
        if end > size:
            raise ValueError("a vector is longer than the message")
        while at < end:
            kind, length = header(message, at)
            start = at + 4
            at = start + length
            if at > size:
                raise ValueError("a vector is longer than the message")
            if kind == wanted:
                return start
    except (IndexError, struct.error):
        raise ValueError("a vector is longer than the message") from None
    return None
