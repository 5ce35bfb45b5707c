"""Extensions field by field, in the message that they stand in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.tls.extensions import Place, extensions
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.names import EXTENSIONS, Extension, is_grease, name_of
from meshtls.wire.tls.reading import Reader
from tests.unit.wire.tls.trees import checked, vector

CH, SH, HRR = Place.CLIENT_HELLO, Place.SERVER_HELLO, Place.HELLO_RETRY_REQUEST
EE, CERT, CR, NST = (
    Place.ENCRYPTED_EXTENSIONS,
    Place.CERTIFICATE,
    Place.CERTIFICATE_REQUEST,
    Place.NEW_SESSION_TICKET,
)


def read(data: bytes, place: Place) -> Field:
    return checked(Reader(data).whole("message", lambda reader: extensions(reader, place)), data)


def one(kind: int, content: bytes, place: Place) -> Field:
    """The only extension of a list."""
    (list_,) = read(vector(kind.to_bytes(2, "big") + vector(content, 2), 2), place).children
    _, found = list_.children
    return found


def item(group: int, size: int) -> bytes:
    return group.to_bytes(2, "big") + vector(bytes(size), 2)


def names(field: Field) -> list[str]:
    """The names of all fields below, without those of the extension's own type and length."""
    return [found.name for found in list(field.walk())[3:]]


ECH_OUTER = b"\0" + b"\0\1\0\1" + b"\x07" + vector(b"e" * 32, 2) + vector(b"p" * 144, 2)
ECH_CONFIG = (
    b"\x07"
    + b"\0\x20"
    + vector(b"k" * 32, 2)
    + vector(b"\0\1\0\1\0\1\0\3", 2)
    + b"\x20"
    + vector(b"front.test", 1)
    + vector(b"", 2)
)
STATUS = b"\1" + vector(vector(b"id", 2), 2) + vector(b"x", 2)


@pytest.mark.parametrize(
    ("kind", "content", "place", "text"),
    [
        (Extension.SERVER_NAME, vector(b"\0" + vector(b"a.test", 2), 2), CH, "a.test"),
        (Extension.SERVER_NAME, vector(b"\0" + vector(b"\xffa", 2), 2), CH, "\\xffa"),
        (Extension.SERVER_NAME, b"", EE, ""),
        (Extension.MAX_FRAGMENT_LENGTH, b"\2", CH, "1024 bytes"),
        (Extension.STATUS_REQUEST, STATUS, CH, "ocsp"),
        (Extension.STATUS_REQUEST, STATUS, CR, "ocsp"),
        (Extension.STATUS_REQUEST, b"", SH, ""),
        (Extension.STATUS_REQUEST, b"\1" + vector(b"der", 3), CERT, "ocsp"),
        (Extension.SUPPORTED_GROUPS, vector(b"\x11\xec\0\x1d\x1a\x1a\x77\x77", 2), CH, None),
        (Extension.EC_POINT_FORMATS, vector(b"\0", 1), SH, "uncompressed"),
        (Extension.SIGNATURE_ALGORITHMS, vector(b"\x09\x05\x08\x07", 2), CH, "mldsa65, ed25519"),
        (Extension.SIGNATURE_ALGORITHMS_CERT, vector(b"\x04\x01", 2), CR, "rsa_pkcs1_sha256"),
        (Extension.HEARTBEAT, b"\1", CH, "peer_allowed_to_send"),
        (Extension.ALPN, vector(vector(b"h2", 1) + vector(b"\x0a\x0a", 1), 2), CH, "h2, \n\n"),
        (Extension.SIGNED_CERTIFICATE_TIMESTAMP, b"", CH, ""),
        (Extension.SIGNED_CERTIFICATE_TIMESTAMP, vector(vector(b"sct", 2), 2), CERT, ""),
        (Extension.CLIENT_CERTIFICATE_TYPE, vector(b"\2\0", 1), CH, "raw_public_key, X.509"),
        (Extension.SERVER_CERTIFICATE_TYPE, b"\2", EE, "raw_public_key"),
        (Extension.PADDING, bytes(9), CH, "9 bytes"),
        (Extension.PADDING, bytes(9) + b"x", CH, "10 bytes, not all of them zero"),
        (Extension.PADDING, b"", CH, "0 bytes"),
        (Extension.ENCRYPT_THEN_MAC, b"", SH, ""),
        (Extension.EXTENDED_MASTER_SECRET, b"", SH, ""),
        (Extension.COMPRESS_CERTIFICATE, vector(b"\0\2\0\1", 1), CH, "brotli, zlib"),
        (Extension.RECORD_SIZE_LIMIT, b"\x40\x01", EE, "16385 bytes"),
        (Extension.DELEGATED_CREDENTIAL, vector(b"\x04\x03", 2), CH, "ecdsa_secp256r1_sha256"),
        (
            Extension.DELEGATED_CREDENTIAL,
            bytes(4) + b"\x08\x07" + vector(b"spki", 3) + b"\x04\x03" + vector(b"sig", 2),
            CERT,
            "ed25519",
        ),
        (Extension.SESSION_TICKET, b"ticket", CH, "6 bytes"),
        (Extension.PRE_SHARED_KEY, b"\0\1", SH, "identity 1"),
        (Extension.EARLY_DATA, b"", CH, ""),
        (Extension.EARLY_DATA, b"", EE, ""),
        (Extension.EARLY_DATA, b"\0\0\x40\0", NST, "16384 bytes"),
        (Extension.SUPPORTED_VERSIONS, vector(b"\x7a\x7a\x03\x04\x03\x03", 1), CH, "GREASE (0x7a7a), TLS 1.3, TLS 1.2"),
        (Extension.SUPPORTED_VERSIONS, b"\x03\x04", SH, "TLS 1.3"),
        (Extension.COOKIE, vector(b"cookie", 2), HRR, "6 bytes"),
        (Extension.PSK_KEY_EXCHANGE_MODES, vector(b"\1\x2a", 1), CH, "psk_dhe_ke, GREASE (0x2a)"),
        (Extension.CERTIFICATE_AUTHORITIES, vector(vector(b"name", 2), 2), CR, ""),
        (Extension.OID_FILTERS, vector(vector(b"oid", 1) + vector(b"values", 2), 2), CR, ""),
        (Extension.POST_HANDSHAKE_AUTH, b"", CH, ""),
        (Extension.KEY_SHARE, vector(item(0x0A0A, 1) + item(0x1D, 32), 2), CH, "GREASE (0x0a0a), x25519"),
        (Extension.KEY_SHARE, item(0x17, 65), SH, "secp256r1"),
        (Extension.KEY_SHARE, b"\0\x18", HRR, "secp384r1"),
        (Extension.TICKET_REQUEST, b"\2\1", CH, ""),
        (Extension.TICKET_REQUEST, b"\2", EE, "2"),
        (Extension.NEXT_PROTOCOL_NEGOTIATION, b"", CH, ""),
        (Extension.ALPS, vector(vector(b"h2", 1), 2), CH, "h2"),
        (Extension.ALPS_OLD, vector(vector(b"h2", 1), 2), CH, "h2"),
        (Extension.ALPS, b"settings", EE, ""),
        (Extension.ECH_OUTER_EXTENSIONS, vector(b"\0\x0a\0\x0d", 1), CH, "supported_groups, signature_algorithms"),
        (Extension.ENCRYPTED_CLIENT_HELLO, ECH_OUTER, CH, "outer"),
        (Extension.ENCRYPTED_CLIENT_HELLO, b"\1", CH, "inner"),
        (Extension.ENCRYPTED_CLIENT_HELLO, bytes(8), HRR, "0000000000000000"),
        (
            Extension.ENCRYPTED_CLIENT_HELLO,
            vector(b"\xfe\x0d" + vector(ECH_CONFIG, 2) + b"\xfe\x0a" + vector(b"old", 2), 2),
            EE,
            "front.test",
        ),
        (Extension.RENEGOTIATION_INFO, vector(b"verify", 1), CH, ""),
        (0x5A5A, b"\0", CH, ""),
        (1234, b"unknown", CH, ""),
        (57, b"quic", CH, ""),
    ],
)
def test_an_extension_is_read_by_the_message_that_it_stands_in(
    kind: int, content: bytes, place: Place, text: str | None
) -> None:
    found = one(kind, content, place)
    assert list(found.errors()) == []
    assert found.name == name_of(EXTENSIONS, kind)
    if text is not None:
        assert found.text == text
    # The same with a byte less is an error, unless it is raw bytes.
    raw = not content or {"data", "padding", "ticket"} & set(names(found))
    if content and not raw:
        assert list(one(kind, content[:-1], place).errors())
    # So is a byte more.
    if not raw and kind != Extension.SERVER_NAME:
        longer = list(one(kind, content + b"\0", place).errors())
        assert longer or kind in (Extension.ENCRYPTED_CLIENT_HELLO,)


def test_unknown_numbers_and_grease_are_told_apart() -> None:
    groups = one(Extension.SUPPORTED_GROUPS, vector(b"\x11\xec\0\x1d\x1a\x1a\x77\x77", 2), CH)
    assert groups.text == "X25519MLKEM768, x25519, GREASE (0x1a1a), 0x7777"
    assert one(0xFAFA, b"x", CH).name == "GREASE (0xfafa)"
    assert one(0xFAFB, b"x", CH).name == "0xfafb"
    reserved = [number for number in range(1 << 16) if is_grease(number)]
    assert reserved == [0x0A0A + 0x1010 * step for step in range(16)]


@pytest.mark.parametrize(
    ("group", "place", "parts"),
    [
        (0x11EC, CH, [("ML-KEM-768", 1184), ("x25519", 32)]),
        (0x11EC, SH, [("ML-KEM-768", 1088), ("x25519", 32)]),
        (0x11EB, CH, [("secp256r1", 65), ("ML-KEM-768", 1184)]),
        (0x11ED, SH, [("secp384r1", 97), ("ML-KEM-1024", 1568)]),
        (0x6399, CH, [("x25519", 32), ("Kyber768Draft00", 1184)]),
        (0x001D, SH, [("x25519", 32)]),
        (0x0019, CH, [("secp521r1", 133)]),
        (0x0104, CH, [("dh_Y", 1024)]),
    ],
)
def test_a_key_share_is_made_of_the_parts_of_its_group(group: int, place: Place, parts: list[tuple[str, int]]) -> None:
    def share(size: int) -> Field:
        data = item(group, size)
        return one(Extension.KEY_SHARE, vector(data, 2) if place is CH else data, place)

    size = sum(size for _, size in parts)
    found = share(size)
    assert list(found.errors()) == []
    key = next(field for field in found.walk() if field.name == "key_exchange")
    assert [(part.name, part.length) for part in key.children[1:]] == parts
    assert len(list(share(size - 1).errors())) == 1
    assert len(list(share(size + 1).errors())) == 1


def test_the_fields_of_encrypted_client_hello_are_those_of_the_standard() -> None:
    outer = one(Extension.ENCRYPTED_CLIENT_HELLO, ECH_OUTER, CH)
    assert [
        (field.name, field.value if field.length < 3 else field.length, field.text) for field in outer.children[2:]
    ] == [
        ("type", 0, "outer"),
        ("kdf_id", 1, "HKDF-SHA256"),
        ("aead_id", 1, "AES-128-GCM"),
        ("config_id", 7, ""),
        ("enc", 34, ""),
        ("payload", 146, ""),
    ]
    config = one(Extension.ENCRYPTED_CLIENT_HELLO, vector(b"\xfe\x0d" + vector(ECH_CONFIG, 2), 2), EE)
    found = config.child("retry_configs", "config")
    assert found is not None
    assert [field.name for field in found.children] == [
        "version",
        "length",
        "config_id",
        "kem_id",
        "public_key",
        "cipher_suites",
        "maximum_name_length",
        "public_name",
        "extensions",
    ]


def test_the_offered_keys_have_their_binders() -> None:
    content = vector(vector(b"id", 2) + bytes(4), 2) + vector(vector(bytes(32), 1) + vector(bytes(48), 1), 2)
    found = one(Extension.PRE_SHARED_KEY, content, CH)
    binders = found.child("binders")
    assert binders is not None
    assert [field.length for field in binders.children[1:]] == [33, 49]


_PLACES = st.sampled_from(Place)
_KINDS = st.sampled_from([*map(int, Extension), 0x0A0A, 1234])


@given(st.lists(st.tuples(_KINDS, st.binary(max_size=60)), max_size=5), _PLACES, st.binary(max_size=4))
def test_any_content_is_read_without_an_exception(found: list[tuple[int, bytes]], place: Place, after: bytes) -> None:
    data = b"".join(kind.to_bytes(2, "big") + vector(content, 2) for kind, content in found)
    (list_, *_) = read(vector(data + after, 2), place).children
    # However wrong their contents are, each extension is where its length says.
    whole = [field for field in list_.children[1:] if field.name not in ("undecoded",)]
    assert [(field.name, field.length) for field in whole][: len(found)] == [
        (name_of(EXTENSIONS, kind), 4 + len(content)) for kind, content in found
    ]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Extension.SUPPORTED_GROUPS, vector(b"\0\x1d\0\x17", 2)),
        (Extension.ALPN, vector(vector(b"h2", 1), 2)),
        (Extension.SUPPORTED_VERSIONS, b"\2\3\4"),
        (Extension.SUPPORTED_GROUPS, vector(b"\0\x1d\0", 2)),
        (Extension.EXTENDED_MASTER_SECRET, b"x"),
    ],
)
def test_an_extension_that_comes_again_has_its_own_offsets(kind: int, content: bytes) -> None:
    extension = kind.to_bytes(2, "big") + vector(content, 2)
    before = Extension.PADDING.to_bytes(2, "big") + vector(bytes(3), 2)
    fresh = [read(vector(data + extension, 2), CH).children[0].children[-1] for data in (b"", before)]
    again = [read(vector(data + extension, 2), CH).children[0].children[-1] for data in (b"", before)]
    assert again == fresh
    assert fresh[1].offset == fresh[0].offset + len(before)
    # Cut off, it has an error that the whole one has not.
    cut = Reader(vector(extension, 2)[:-1]).whole("message", lambda reader: extensions(reader, CH))
    assert "by its length" in " ".join(checked(cut, vector(extension, 2)[:-1]).errors())


@pytest.mark.parametrize("secret", [True, False])
def test_undecoded_bytes_are_withheld_in_secret_messages_alone(secret: bool) -> None:
    data = vector(Extension.SUPPORTED_GROUPS.to_bytes(2, "big") + vector(vector(b"\0\x1d\0", 2), 2), 2)
    read(data, NST)  # in a message that is no secret
    tree = Reader(data).whole("message", lambda reader: extensions(reader, NST), secret=secret)
    (undecoded,) = [one for one in tree.leaves() if one.name == "undecoded"]
    assert undecoded.value == (None if secret else b"\0")
