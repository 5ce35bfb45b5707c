"""The Certificate message that a CompressedCertificate holds (RFC 8879, section 4). Pure."""

from __future__ import annotations

import zlib

from meshtls.wire.tls.assembling import MAX_MESSAGE, MESSAGE_HEADER
from meshtls.wire.tls.names import CERTIFICATE_COMPRESSIONS, HandshakeType, name_of
from meshtls.wire.tls.reading import DecodeError, vector

__all__ = ["decompressed_certificate"]

_ALGORITHM, _LENGTH, _CONTENT = MESSAGE_HEADER, MESSAGE_HEADER + 2, MESSAGE_HEADER + 5
_ZLIB = 1


def decompressed_certificate(message: bytes) -> bytes | DecodeError:
    """The Certificate message, with a header of its own, or why there is none. ``message`` includes its header.

    Only zlib is decompressed, to at most MAX_MESSAGE bytes.
    """
    algorithm = int.from_bytes(message[_ALGORITHM:_LENGTH], "big")
    size = int.from_bytes(message[_LENGTH:_CONTENT], "big")
    try:
        start, end = vector(message, _CONTENT, 3)
    except ValueError:
        return DecodeError(_CONTENT, "wanted a whole CompressedCertificate, got one that is cut off")
    if algorithm != _ZLIB:
        return DecodeError(_ALGORITHM, f"wanted the algorithm zlib, got {name_of(CERTIFICATE_COMPRESSIONS, algorithm)}")
    if size > MAX_MESSAGE - MESSAGE_HEADER:
        return DecodeError(_LENGTH, f"wanted at most {MAX_MESSAGE - MESSAGE_HEADER} bytes uncompressed, got {size}")
    try:
        content = zlib.decompressobj().decompress(message[start:end], size + 1)
    except zlib.error:
        return DecodeError(start, "wanted the format of zlib, got other bytes")
    if len(content) != size:
        got = f"at least {len(content)}" if len(content) > size else len(content)
        return DecodeError(start, f"wanted {size} bytes uncompressed, got {got}")
    return bytes((HandshakeType.CERTIFICATE, *size.to_bytes(3, "big"))) + content
