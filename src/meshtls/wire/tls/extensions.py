"""The extensions of handshake messages, field by field (RFC 8446, section 4.2, and the RFC of each). Pure.

What an extension holds depends on the message that it stands in: a ClientHello offers what the answer selects from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from struct import Struct
from typing import NamedTuple

from meshtls.wire.tls import names
from meshtls.wire.tls.names import Extension, name_of
from meshtls.wire.tls.reading import MOST_REMEMBERED, Decode, DecodeError, Reader

__all__ = ["Place", "extensions"]

#: Of an extension: its type, and the length of its content.
_HEADER = Struct(">HH")
_HEADER_BYTES = _HEADER.size


class Place(Enum):
    """The structure that has a list of extensions."""

    CLIENT_HELLO = auto()
    SERVER_HELLO = auto()
    HELLO_RETRY_REQUEST = auto()
    ENCRYPTED_EXTENSIONS = auto()
    CERTIFICATE_REQUEST = auto()
    CERTIFICATE = auto()
    NEW_SESSION_TICKET = auto()
    ECH_CONFIG = auto()

    #: As ``Side`` has it.
    __hash__ = object.__hash__


def extensions(reader: Reader, place: Place) -> str:
    """The vector of extensions; their names in words."""
    return reader.items("extensions", 2, partial(_extension, place, set()))


def _extension(place: Place, seen: set[int], reader: Reader) -> str:
    at = reader.at
    if reader.end - at < _HEADER_BYTES:
        reader.peek("an extension's type and length", _HEADER_BYTES)  # says what is wrong
    kind, size = _HEADER.unpack_from(reader.data, at)
    name = names.EXTENSIONS.get(kind) or name_of(names.EXTENSIONS, kind)
    if kind in seen:
        _read(reader, place, kind, size, DecodeError(at, f"a second extension {name}").text)
    elif size <= _REMEMBERED.get(kind, -1):
        reader.remembered(_HEADER_BYTES + size, _WHOLE[place])
    else:
        _read(reader, place, kind, size)
    seen.add(kind)
    return name


def _whole(place: Place, reader: Reader) -> None:
    """The extension that comes next, as if it were the only one."""
    _read(reader, place, *_HEADER.unpack_from(reader.data, reader.at))


#: For each place a function, by which its extensions are remembered.
_WHOLE: Mapping[Place, Callable[[Reader], None]] = {place: partial(_whole, place) for place in Place}


def _read(reader: Reader, place: Place, kind: int, size: int, error: str = "") -> None:
    name = name_of(names.EXTENSIONS, kind)
    decoders = _DECODERS.get(kind, {})
    content = partial(_content, kind, name, size, decoders.get(place, decoders.get(None)))
    reader.structure(name, content, size=_HEADER.size + size, secret=kind in _WITH_TICKETS, error=error)


def _content(kind: int, name: str, size: int, decode: Decode | None, reader: Reader) -> str:
    reader.header(kind, name, size)
    if decode is None:
        reader.rest("data")
        return ""
    return decode(reader) or ""


def in_words(data: bytes) -> str:
    """Bytes that are usually ASCII, such as the name of a host or of a protocol; others escaped."""
    return data.decode("ascii", "backslashreplace")


# -- one function for each structure, in the order of their numbers --


def _empty(reader: Reader) -> None:
    """Its presence says it all."""


def _server_names(reader: Reader) -> str:
    return reader.items("server_name_list", 2, lambda one: one.structure("server_name", _server_name))


def _server_name(reader: Reader) -> str:
    kind = reader.number("name_type", 1, names.NAME_TYPES)
    return in_words(reader.vector(names.NAME_TYPES.get(kind, "name"), 2, text=in_words))


def _status_request(reader: Reader) -> str:
    kind = reader.number("status_type", 1, names.CERTIFICATE_STATUS_TYPES)
    reader.items("responder_id_list", 2, lambda one: one.take_vector("responder_id", 2))
    reader.vector("request_extensions", 2)
    return name_of(names.CERTIFICATE_STATUS_TYPES, kind)


def certificate_status(reader: Reader) -> str:
    """CertificateStatus of RFC 6066, section 8: a message of TLS 1.2, and an extension of a certificate in TLS 1.3."""
    kind = reader.number("status_type", 1, names.CERTIFICATE_STATUS_TYPES)
    reader.vector("response", 3)
    return name_of(names.CERTIFICATE_STATUS_TYPES, kind)


def _groups(reader: Reader) -> str:
    return reader.numbers("named_group_list", 2, 2, "named_group", names.GROUPS)


def _point_formats(reader: Reader) -> str:
    return reader.numbers("ec_point_format_list", 1, 1, "ec_point_format", names.POINT_FORMATS)


def _schemes(reader: Reader) -> str:
    return reader.numbers("supported_signature_algorithms", 2, 2, "scheme", names.SCHEMES)


def _protocols(reader: Reader) -> str:
    return reader.items("protocol_name_list", 2, _protocol)


def _protocol(reader: Reader) -> str:
    return in_words(reader.vector("protocol_name", 1, text=_protocol_in_words))


def _protocol_in_words(name: bytes) -> str:
    if len(name) == 2 and names.is_grease(int.from_bytes(name, "big")):
        return f"GREASE (0x{name.hex()})"
    return in_words(name)


def _timestamps(reader: Reader) -> str:
    return reader.items("sct_list", 2, lambda one: one.take_vector("serialized_sct", 2))


def _padding(reader: Reader) -> str:
    size = reader.end - reader.at
    clean = not any(reader.rest("padding"))
    return f"{size} bytes" if clean else f"{size} bytes, not all of them zero"


def _compressions(reader: Reader) -> str:
    return reader.numbers("algorithms", 1, 2, "algorithm", names.CERTIFICATE_COMPRESSIONS)


def _record_size_limit(reader: Reader) -> str:
    return f"{reader.number('record_size_limit', 2)} bytes"


def _delegated_credential(reader: Reader) -> str:
    """RFC 9345, section 4."""
    reader.number("valid_time", 4)
    scheme = reader.number("dc_cert_verify_algorithm", 2, names.SCHEMES)
    reader.vector("ASN1_subjectPublicKeyInfo", 3)
    reader.number("algorithm", 2, names.SCHEMES)
    reader.vector("signature", 2)
    return name_of(names.SCHEMES, scheme)


def _session_ticket(reader: Reader) -> str:
    size = reader.end - reader.at
    reader.withheld_rest("ticket")
    return f"{size} bytes"


def _offered_psks(reader: Reader) -> str:
    reader.items("identities", 2, lambda one: one.structure("psk_identity", _psk_identity))
    reader.items("binders", 2, lambda one: one.take_vector("binder", 1))
    return ""


def _psk_identity(reader: Reader) -> None:
    reader.withheld("identity", 2)
    reader.number("obfuscated_ticket_age", 4)


def _selected_identity(reader: Reader) -> str:
    return f"identity {reader.number('selected_identity', 2)}"


def _max_early_data(reader: Reader) -> str:
    return f"{reader.number('max_early_data_size', 4)} bytes"


def _versions(reader: Reader) -> str:
    return reader.numbers("versions", 1, 2, "version", names.VERSIONS)


def _selected_version(reader: Reader) -> str:
    return name_of(names.VERSIONS, reader.number("selected_version", 2, names.VERSIONS))


def _cookie(reader: Reader) -> str:
    return f"{len(reader.vector('cookie', 2))} bytes"


def _psk_modes(reader: Reader) -> str:
    return reader.numbers("ke_modes", 1, 1, "ke_mode", names.PSK_MODES)


def distinguished_names(reader: Reader) -> str:
    """The names of authorities (RFC 8446, section 4.2.4; RFC 5246, section 7.4.4), in DER."""
    return reader.items("authorities", 2, lambda one: one.take_vector("distinguished_name", 2))


def _oid_filters(reader: Reader) -> str:
    return reader.items("filters", 2, lambda one: one.structure("filter", _oid_filter))


def _oid_filter(reader: Reader) -> None:
    reader.vector("certificate_extension_oid", 1)
    reader.vector("certificate_extension_values", 2)


class _Part(NamedTuple):
    """A public key, or a ciphertext, in a key share: its size from a client and from a server."""

    name: str
    client: int
    server: int


_X25519, _X448 = _Part("x25519", 32, 32), _Part("x448", 56, 56)
_P256, _P384, _P521 = _Part("secp256r1", 65, 65), _Part("secp384r1", 97, 97), _Part("secp521r1", 133, 133)
_MLKEM512, _MLKEM768, _MLKEM1024 = (
    _Part("ML-KEM-512", 800, 768),
    _Part("ML-KEM-768", 1184, 1088),
    _Part("ML-KEM-1024", 1568, 1568),
)
#: What a share of a group is made of (RFC 8446, section 4.2.8; the drafts of ECDHE with ML-KEM and of ML-KEM alone).
_SHARES: Mapping[int, tuple[_Part, ...]] = {
    0x0017: (_P256,),
    0x0018: (_P384,),
    0x0019: (_P521,),
    0x001D: (_X25519,),
    0x001E: (_X448,),
    **{0x0100 + place: (_Part("dh_Y", size, size),) for place, size in enumerate((256, 384, 512, 768, 1024))},
    0x0200: (_MLKEM512,),
    0x0201: (_MLKEM768,),
    0x0202: (_MLKEM1024,),
    0x11EB: (_P256, _MLKEM768),
    0x11EC: (_MLKEM768, _X25519),
    0x11ED: (_P384, _MLKEM1024),
    0x6399: (_X25519, _Part("Kyber768Draft00", 1184, 1088)),
    0x639A: (_P256, _Part("Kyber768Draft00", 1184, 1088)),
}


_Parts = tuple[tuple[str, int], ...]
_OF_CLIENT: Mapping[int, _Parts] = {
    group: tuple((one.name, one.client) for one in parts) for group, parts in _SHARES.items()
}
_OF_SERVER: Mapping[int, _Parts] = {
    group: tuple((one.name, one.server) for one in parts) for group, parts in _SHARES.items()
}


def _client_shares(reader: Reader) -> str:
    return reader.items("client_shares", 2, lambda one: one.structure("key_share_entry", _client_share))


def _client_share(reader: Reader) -> str:
    return _share(reader, _OF_CLIENT)


def _server_share(reader: Reader) -> str:
    return reader.structure("server_share", lambda one: _share(one, _OF_SERVER))


def _share(reader: Reader, known: Mapping[int, _Parts]) -> str:
    group = reader.number("group", 2, names.GROUPS)
    parts = known.get(group)
    if parts is None:
        reader.vector("key_exchange", 2)
    elif not reader.parts("key_exchange", 2, parts):
        reader.listed("key_exchange", 2, partial(_share_parts, parts))
    return name_of(names.GROUPS, group)


def _share_parts(parts: _Parts, reader: Reader) -> None:
    """As far as they are here."""
    for name, size in parts:
        reader.opaque(name, size)


def _selected_group(reader: Reader) -> str:
    return name_of(names.GROUPS, reader.number("selected_group", 2, names.GROUPS))


def _ticket_request(reader: Reader) -> None:
    """RFC 9149, section 3."""
    reader.number("new_session_count", 1)
    reader.number("resumption_count", 1)


def _ech_client_hello(reader: Reader) -> str:
    """RFC 9849, section 5."""
    kind = reader.number("type", 1, names.ECH_CLIENT_HELLO_TYPES)
    if kind == 0:
        _hpke_suite(reader)
        reader.number("config_id", 1)
        reader.vector("enc", 2)
        reader.vector("payload", 2)
    return name_of(names.ECH_CLIENT_HELLO_TYPES, kind, 2)


def _hpke_suite(reader: Reader) -> None:
    reader.number("kdf_id", 2, names.HPKE_KDFS)
    reader.number("aead_id", 2, names.HPKE_AEADS)


def _ech_configs(reader: Reader) -> str:
    """RFC 9849, section 4."""
    return reader.items("retry_configs", 2, _ech_config)


def _ech_config(reader: Reader) -> str:
    header = reader.peek("the version and length of a configuration", 4)
    decode = _ech_contents if header >> 16 == Extension.ENCRYPTED_CLIENT_HELLO else None
    return reader.structure("config", partial(_versioned, decode=decode), size=4 + (header & 0xFFFF))


def _versioned(reader: Reader, decode: Decode | None) -> str:
    reader.number("version", 2)
    reader.number("length", 2)
    if decode is None:
        reader.rest("data")
        return ""
    return decode(reader) or ""


def _ech_contents(reader: Reader) -> str:
    reader.number("config_id", 1)
    reader.number("kem_id", 2)
    reader.vector("public_key", 2)
    reader.items("cipher_suites", 2, lambda one: one.structure("cipher_suite", _hpke_suite))
    reader.number("maximum_name_length", 1)
    name = reader.vector("public_name", 1, text=in_words)
    extensions(reader, Place.ECH_CONFIG)
    return in_words(name)


def _renegotiation_info(reader: Reader) -> None:
    reader.vector("renegotiated_connection", 1)


def _one(name: str, registry: Mapping[int, str], size: int = 1) -> Decode:
    """The decoder of an extension that is a single number."""
    return lambda reader: name_of(registry, reader.number(name, size, registry), 2 * size)


def _some(name: str, item: str, registry: Mapping[int, str]) -> Decode:
    """The decoder of an extension that is a vector of numbers of one byte."""
    return lambda reader: reader.numbers(name, 1, 1, item, registry)


_CERTIFICATE_TYPES = _some("certificate_types", "certificate_type", names.CERTIFICATE_TYPES)
_CERTIFICATE_TYPE = _one("certificate_type", names.CERTIFICATE_TYPES)
_HELLOS = (Place.CLIENT_HELLO, Place.CERTIFICATE_REQUEST)
_Decoders = Mapping[Place | None, Decode]


def _offered(offer: Decode, answer: Decode | None) -> _Decoders:
    """``offer`` in a ClientHello and in a CertificateRequest; ``answer``, if it has a structure, in all others."""
    return {**dict.fromkeys(_HELLOS, offer), **({} if answer is None else {None: answer})}


#: None stands for all places that are not named.
_DECODERS: Mapping[int, _Decoders] = {
    Extension.SERVER_NAME: _offered(_server_names, _empty),
    Extension.MAX_FRAGMENT_LENGTH: {None: _one("max_fragment_length", names.MAX_FRAGMENT_LENGTHS)},
    Extension.STATUS_REQUEST: {
        **_offered(_status_request, _empty),
        Place.CERTIFICATE: certificate_status,
    },
    Extension.SUPPORTED_GROUPS: {None: _groups},
    Extension.EC_POINT_FORMATS: {None: _point_formats},
    Extension.SIGNATURE_ALGORITHMS: {None: _schemes},
    Extension.HEARTBEAT: {None: _one("mode", names.HEARTBEAT_MODES)},
    Extension.ALPN: {None: _protocols},
    Extension.SIGNED_CERTIFICATE_TIMESTAMP: _offered(_empty, _timestamps),
    Extension.CLIENT_CERTIFICATE_TYPE: _offered(_CERTIFICATE_TYPES, _CERTIFICATE_TYPE),
    Extension.SERVER_CERTIFICATE_TYPE: _offered(_CERTIFICATE_TYPES, _CERTIFICATE_TYPE),
    Extension.PADDING: {None: _padding},
    Extension.ENCRYPT_THEN_MAC: {None: _empty},
    Extension.EXTENDED_MASTER_SECRET: {None: _empty},
    Extension.COMPRESS_CERTIFICATE: {None: _compressions},
    Extension.RECORD_SIZE_LIMIT: {None: _record_size_limit},
    Extension.DELEGATED_CREDENTIAL: _offered(_schemes, _delegated_credential),
    Extension.SESSION_TICKET: {None: _session_ticket},
    Extension.PRE_SHARED_KEY: _offered(_offered_psks, _selected_identity),
    Extension.EARLY_DATA: {None: _empty, Place.NEW_SESSION_TICKET: _max_early_data},
    Extension.SUPPORTED_VERSIONS: _offered(_versions, _selected_version),
    Extension.COOKIE: {None: _cookie},
    Extension.PSK_KEY_EXCHANGE_MODES: {None: _psk_modes},
    Extension.CERTIFICATE_AUTHORITIES: {None: distinguished_names},
    Extension.OID_FILTERS: {None: _oid_filters},
    Extension.POST_HANDSHAKE_AUTH: {None: _empty},
    Extension.SIGNATURE_ALGORITHMS_CERT: {None: _schemes},
    Extension.KEY_SHARE: {
        Place.CLIENT_HELLO: _client_shares,
        Place.SERVER_HELLO: _server_share,
        Place.HELLO_RETRY_REQUEST: _selected_group,
    },
    Extension.TICKET_REQUEST: _offered(_ticket_request, lambda reader: str(reader.number("expected_count", 1))),
    Extension.NEXT_PROTOCOL_NEGOTIATION: _offered(_empty, None),
    Extension.ALPS: _offered(_protocols, None),
    Extension.ALPS_OLD: _offered(_protocols, None),
    Extension.ECH_OUTER_EXTENSIONS: {
        None: lambda reader: reader.numbers("outer_extensions", 1, 2, "extension_type", names.EXTENSIONS)
    },
    Extension.ENCRYPTED_CLIENT_HELLO: {
        Place.CLIENT_HELLO: _ech_client_hello,
        Place.ENCRYPTED_EXTENSIONS: _ech_configs,
        Place.HELLO_RETRY_REQUEST: lambda reader: reader.opaque("confirmation", 8).hex(),
    },
    Extension.RENEGOTIATION_INFO: {None: _renegotiation_info},
}
#: What a program says again and again: what it supports, and the names of its servers. With the most bytes of one that
#: is remembered: of a session ticket, which is a secret, only that there is none.
_REMEMBERED: Mapping[int, int] = {int(Extension.SESSION_TICKET): 0} | {
    int(one): MOST_REMEMBERED - _HEADER.size
    for one in (
        Extension.SERVER_NAME,
        Extension.STATUS_REQUEST,
        Extension.SUPPORTED_GROUPS,
        Extension.EC_POINT_FORMATS,
        Extension.SIGNATURE_ALGORITHMS,
        Extension.SIGNATURE_ALGORITHMS_CERT,
        Extension.ALPN,
        Extension.ENCRYPT_THEN_MAC,
        Extension.EXTENDED_MASTER_SECRET,
        Extension.COMPRESS_CERTIFICATE,
        Extension.RECORD_SIZE_LIMIT,
        Extension.SUPPORTED_VERSIONS,
        Extension.PSK_KEY_EXCHANGE_MODES,
        Extension.POST_HANDSHAKE_AUTH,
        Extension.RENEGOTIATION_INFO,
    )
}

#: Whose bytes are those of a ticket, also where they can't be decoded.
_WITH_TICKETS = frozenset((Extension.SESSION_TICKET, Extension.PRE_SHARED_KEY))
