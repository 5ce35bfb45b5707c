"""Handshake messages of TLS 1.2 and 1.3, field by field (RFC 8446, section 4; RFC 5246, section 7.4; RFC 8422). Pure.

Those of TLS 1.0, 1.1 and SSL 3.0 have the same structure but for a few fields, which are read by their version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256

from meshtls.wire.tls import names
from meshtls.wire.tls.assembling import MESSAGE_HEADER
from meshtls.wire.tls.extensions import Place, certificate_status, distinguished_names, extensions
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.names import TLS_1_2, TLS_1_3, HandshakeType, name_of
from meshtls.wire.tls.reading import Decode, Reader
from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = [
    "HELLO_RETRY_REQUEST",
    "decode_message",
    "is_hello_retry_request",
    "message_name",
    "named_curve_of_message",
]

#: The random bytes by which a ServerHello is a HelloRetryRequest (RFC 8446, section 4.1.3).
HELLO_RETRY_REQUEST = sha256(b"HelloRetryRequest").digest()
_SERVER_HELLO, _TICKET = int(HandshakeType.SERVER_HELLO), int(HandshakeType.NEW_SESSION_TICKET)
_RANDOM = slice(MESSAGE_HEADER + 2, MESSAGE_HEADER + 2 + 32)
#: The last bytes of a ServerHello's random bytes from a server that could do better (RFC 8446, section 4.1.3).
_DOWNGRADES: Mapping[bytes, str] = {
    b"DOWNGRD\x01": "downgraded: the server supports TLS 1.3 and has selected TLS 1.2",
    b"DOWNGRD\x00": "downgraded: the server supports TLS 1.2 or later and has selected TLS 1.1 or earlier",
}


def message_name(kind: int, data: bytes = b"") -> str:
    """The standard's name of this type of message, or its number. ``data`` tells a HelloRetryRequest by its bytes."""
    if kind == _SERVER_HELLO and is_hello_retry_request(data):
        return "HelloRetryRequest"
    return names.HANDSHAKE_TYPES.get(kind) or f"type {kind}"


def is_hello_retry_request(message: bytes) -> bool:
    """Whether this ServerHello, with its header, asks the client for another ClientHello."""
    return message[_RANDOM] == HELLO_RETRY_REQUEST


def decode_message(kind: int, data: bytes, version: int, *, suite: int | None = None) -> Field:
    """The fields of one handshake message. Never raises: what is wrong is in the fields' ``error``.

    - ``kind``: its type, as in the first byte of ``data``, which begins with the header and may be cut off.
    - ``version``: the one that was negotiated, such as ``TLS_1_3``. A ClientHello, a ServerHello and a
      HelloRetryRequest are read without it.
    - ``suite``: the negotiated cipher suite, if it is known. It says how the keys of TLS 1.2 are exchanged, which is
      otherwise told by the structure.
    """
    decode = _DECODERS.get(kind, _unknown)
    name = message_name(kind, data)
    return Reader(data).whole(name, partial(_message, decode, name, version, suite), secret=kind == _TICKET)


#: Reads the body of a message, by the version and the suite.
_Decoder = Callable[[Reader, int, "int | None"], "str | None"]


def _message(decode: _Decoder, name: str, version: int, suite: int | None, reader: Reader) -> str:
    reader.number("type", 1, names.HANDSHAKE_TYPES)
    length = reader.number("length", 3)
    return reader.body(name, length, lambda one: decode(one, version, suite))


def _plain(decode: Decode) -> _Decoder:
    """The decoder of a message whose structure depends on nothing but its type."""
    return lambda reader, _version, _suite: decode(reader)


def _unknown(reader: Reader, _version: int, _suite: int | None) -> None:
    reader.rest("body")


def _nothing(reader: Reader) -> None:
    """Decode a message without a body."""


# -- hellos --


def _client_hello(reader: Reader) -> None:
    reader.number("legacy_version", 2, names.VERSIONS)
    reader.opaque("random", 32)
    reader.vector("legacy_session_id", 1)
    reader.remembered_vector(2, _cipher_suites)
    reader.remembered_vector(1, _compression_methods)
    if reader.more:
        extensions(reader, Place.CLIENT_HELLO)


def _cipher_suites(reader: Reader) -> str:
    return reader.numbers("cipher_suites", 2, 2, "cipher_suite", CIPHER_SUITES)


def _compression_methods(reader: Reader) -> str:
    return reader.numbers("legacy_compression_methods", 1, 1, "compression_method", names.COMPRESSIONS)


def _server_hello(reader: Reader) -> str:
    again = is_hello_retry_request(reader.data)
    reader.number("legacy_version", 2, names.VERSIONS)
    random = reader.data[_RANDOM]
    note = "SHA-256 of HelloRetryRequest" if again else _DOWNGRADES.get(random[-8:], "")
    reader.opaque("random", 32, note)
    reader.vector("legacy_session_id_echo", 1)
    suite = reader.number("cipher_suite", 2, CIPHER_SUITES)
    reader.number("legacy_compression_method", 1, names.COMPRESSIONS)
    if reader.more:
        extensions(reader, Place.HELLO_RETRY_REQUEST if again else Place.SERVER_HELLO)
    return name_of(CIPHER_SUITES, suite)


def _encrypted_extensions(reader: Reader) -> str:
    return extensions(reader, Place.ENCRYPTED_EXTENSIONS)


# -- authentication --


def _certificate_request(reader: Reader, version: int, _suite: int | None) -> None:
    if version >= TLS_1_3:
        reader.vector("certificate_request_context", 1)
        extensions(reader, Place.CERTIFICATE_REQUEST)
        return
    reader.remembered_vector(1, _certificate_types)
    if version >= TLS_1_2:
        reader.remembered_vector(2, _schemes)
    distinguished_names(reader)


def _certificate_types(reader: Reader) -> str:
    return reader.numbers("certificate_types", 1, 1, "certificate_type", names.CLIENT_CERTIFICATE_TYPES)


def _schemes(reader: Reader) -> str:
    return reader.numbers("supported_signature_algorithms", 2, 2, "scheme", names.SCHEMES)


def _certificate(reader: Reader, version: int, _suite: int | None) -> None:
    if version >= TLS_1_3:
        reader.vector("certificate_request_context", 1)
        reader.items("certificate_list", 3, lambda one: one.structure("certificate_entry", _certificate_entry))
    else:
        reader.items("certificate_list", 3, lambda one: one.take_vector("cert_data", 3))


def _certificate_entry(reader: Reader) -> None:
    reader.vector("cert_data", 3)
    extensions(reader, Place.CERTIFICATE)


def _compressed_certificate(reader: Reader) -> str:
    algorithm = reader.number("algorithm", 2, names.CERTIFICATE_COMPRESSIONS)
    length = reader.number("uncompressed_length", 3)
    reader.vector("compressed_certificate_message", 3)
    return f"{name_of(names.CERTIFICATE_COMPRESSIONS, algorithm)}, {length} bytes uncompressed"


def _certificate_verify(reader: Reader, version: int, _suite: int | None) -> str:
    return _signature(reader, version)


def _signature(reader: Reader, version: int) -> str:
    words = ""
    if version >= TLS_1_2:
        words = name_of(names.SCHEMES, reader.number("algorithm", 2, names.SCHEMES))
    reader.vector("signature", 2)
    return words


def _finished(reader: Reader) -> None:
    reader.rest("verify_data")


def _certificate_status(reader: Reader) -> str:
    return certificate_status(reader)


# -- after the handshake --


def _new_session_ticket(reader: Reader, version: int, _suite: int | None) -> None:
    if version < TLS_1_3:
        reader.number("ticket_lifetime_hint", 4)
        reader.withheld("ticket", 2)
        return
    reader.number("ticket_lifetime", 4)
    reader.number("ticket_age_add", 4)
    reader.vector("ticket_nonce", 1)
    reader.withheld("ticket", 2)
    extensions(reader, Place.NEW_SESSION_TICKET)


def _key_update(reader: Reader) -> str:
    return name_of(names.KEY_UPDATES, reader.number("request_update", 1, names.KEY_UPDATES), 2)


# -- the key exchange of TLS 1.2 --

_NAMED_CURVE = 3


def _exchange(suite: int | None) -> str:
    """How this suite exchanges keys, such as ECDHE_RSA; empty if it is not known."""
    return CIPHER_SUITES.get(suite, "").removeprefix("TLS_").partition("_WITH_")[0] if suite is not None else ""


def _server_key_exchange(reader: Reader, version: int, suite: int | None) -> str:
    exchange = _exchange(suite)
    if _has_opaque_params(exchange):
        reader.rest("params")
        return exchange
    words = ""
    if _is_elliptic(exchange) or (not exchange and _is_named_curve(reader.data[reader.at : reader.at + 4])):
        if reader.number("curve_type", 1, names.CURVE_TYPES) != _NAMED_CURVE:
            reader.rest("params")
            return ""
        words = name_of(names.GROUPS, reader.number("named_curve", 2, names.GROUPS))
        reader.vector("public", 1)
    else:
        for name in ("dh_p", "dh_g", "dh_Ys"):
            reader.vector(name, 2)
    if not exchange.endswith("_anon") and reader.more:
        _signature(reader, version)
    return words


def named_curve_of_message(message: bytes, suite: int | None) -> int | None:
    """The number of the curve in a ServerKeyExchange with its header, as ``decode_message`` reads it. None without one.

    ``suite``: as there.
    """
    exchange, start = _exchange(suite), message[MESSAGE_HEADER : MESSAGE_HEADER + 4]
    if _has_opaque_params(exchange) or not (_is_elliptic(exchange) or (not exchange and _is_named_curve(start))):
        return None
    return int.from_bytes(start[1:3], "big") if len(start) >= 3 and start[0] == _NAMED_CURVE else None


def _has_opaque_params(exchange: str) -> bool:
    return "PSK" in exchange or exchange.startswith(("SRP", "RSA", "ECJPAKE"))


def _is_elliptic(exchange: str) -> bool:
    return exchange.startswith("ECDHE") or exchange == "ECDH_anon"


def _is_named_curve(start: bytes) -> bool:
    """Whether parameters with these first four bytes are of a curve that has a name: its type, its number, a point."""
    return (
        len(start) == 4
        and start[0] == _NAMED_CURVE
        and int.from_bytes(start[1:3], "big") in names.GROUPS
        and start[3] > 0
    )


def _client_key_exchange(reader: Reader, version: int, suite: int | None) -> None:
    exchange = _exchange(suite)
    size = reader.end - reader.at
    start = reader.data[reader.at : reader.at + 2]
    if "PSK" in exchange or exchange.startswith(("SRP", "KRB5", "GOST", "ECJPAKE")):
        reader.rest("exchange_keys")
    elif exchange.startswith("EC") or (not exchange and size and start[0] == size - 1):
        reader.vector("ecdh_Yc", 1)
    elif exchange.startswith("DH"):
        reader.vector("dh_Yc", 2)
    elif exchange.startswith("RSA") and version > _SSL_3_0:
        reader.vector("encrypted_pre_master_secret", 2)
    elif not exchange and int.from_bytes(start, "big") == size - 2:
        reader.vector("encrypted_pre_master_secret_or_dh_Yc", 2)
    else:
        reader.rest("exchange_keys")


_SSL_3_0 = 0x0300

_DECODERS: Mapping[int, _Decoder] = {
    HandshakeType.HELLO_REQUEST: _plain(_nothing),
    HandshakeType.CLIENT_HELLO: _plain(_client_hello),
    HandshakeType.SERVER_HELLO: _plain(_server_hello),
    HandshakeType.NEW_SESSION_TICKET: _new_session_ticket,
    HandshakeType.END_OF_EARLY_DATA: _plain(_nothing),
    HandshakeType.ENCRYPTED_EXTENSIONS: _plain(_encrypted_extensions),
    HandshakeType.CERTIFICATE: _certificate,
    HandshakeType.SERVER_KEY_EXCHANGE: _server_key_exchange,
    HandshakeType.CERTIFICATE_REQUEST: _certificate_request,
    HandshakeType.SERVER_HELLO_DONE: _plain(_nothing),
    HandshakeType.CERTIFICATE_VERIFY: _certificate_verify,
    HandshakeType.CLIENT_KEY_EXCHANGE: _client_key_exchange,
    HandshakeType.FINISHED: _plain(_finished),
    HandshakeType.CERTIFICATE_STATUS: _plain(_certificate_status),
    HandshakeType.KEY_UPDATE: _plain(_key_update),
    HandshakeType.COMPRESSED_CERTIFICATE: _plain(_compressed_certificate),
    HandshakeType.MESSAGE_HASH: _plain(lambda reader: reader.rest("hash").hex()),
}
