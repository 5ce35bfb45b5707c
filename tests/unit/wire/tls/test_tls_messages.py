"""Handshake messages field by field: those of RFC 8448, of OpenSSL's handshakes, and bytes that are none."""

from __future__ import annotations

import importlib
import ssl
import sys
import zlib
from pathlib import Path
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.side import Side
from meshtls.wire.tls.assembling import MAX_MESSAGE
from meshtls.wire.tls.compression import decompressed_certificate
from meshtls.wire.tls.fields import Field, masked
from meshtls.wire.tls.messages import HELLO_RETRY_REQUEST, decode_message, message_name, named_curve_of_message
from meshtls.wire.tls.names import TLS_1_2, TLS_1_3, HandshakeType
from meshtls.wire.tls.reading import MOST_FIELDS, MOST_ITEMS, DecodeError, _made_once
from tests.unit.wire.tls import rfc8448
from tests.unit.wire.tls.handshakes import Handshake, contexts, shaken
from tests.unit.wire.tls.trees import checked, vector

Kind = HandshakeType
TLS_1_0, TLS_1_1 = 0x0301, 0x0302


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + vector(body, 3)


def decoded(data: bytes, version: int = TLS_1_3, suite: int | None = None, kind: int | None = None) -> Field:
    return checked(decode_message(data[0] if kind is None else kind, data, version, suite=suite), data)


def texts(tree: Field, *path: str) -> list[str]:
    """The words of a list's items."""
    found = tree.child(*path)
    assert found is not None
    return [one.text for one in found.children if one.name != "length"]


def whole(data: bytes, version: int = TLS_1_3, suite: int | None = None) -> Field:
    """The tree of a message in which nothing is wrong."""
    tree = decoded(data, version, suite)
    assert list(tree.errors()) == []
    assert tree.child("more") is None
    return tree


# -- RFC 8448 --


def test_the_client_hello_of_rfc_8448_has_its_fields_at_their_offsets() -> None:
    tree = whole(rfc8448.CLIENT_HELLO)
    assert [(one.name, one.offset, one.length, one.value) for one in tree.children] == [
        ("type", 0, 1, 1),
        ("length", 1, 3, 192),
        ("legacy_version", 4, 2, 0x0303),
        ("random", 6, 32, rfc8448.CLIENT_HELLO[6:38]),
        ("legacy_session_id", 38, 1, b""),
        ("cipher_suites", 39, 8, None),
        ("legacy_compression_methods", 47, 2, None),
        ("extensions", 49, 147, None),
    ]
    assert texts(tree, "cipher_suites") == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_256_GCM_SHA384",
    ]
    extensions = tree.child("extensions")
    assert extensions is not None
    assert [(one.name, one.offset, one.length, one.text) for one in extensions.children[1:]] == [
        ("server_name", 51, 15, "server"),
        ("renegotiation_info", 66, 5, ""),
        (
            "supported_groups",
            71,
            24,
            "x25519, secp256r1, secp384r1, secp521r1, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192",
        ),
        ("session_ticket", 95, 4, "0 bytes"),
        ("key_share", 99, 42, "x25519"),
        ("supported_versions", 141, 7, "TLS 1.3"),
        (
            "signature_algorithms",
            148,
            36,
            "ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384, ecdsa_secp521r1_sha512, ecdsa_sha1, rsa_pss_rsae_sha256,"
            " rsa_pss_rsae_sha384, rsa_pss_rsae_sha512, rsa_pkcs1_sha256, rsa_pkcs1_sha384, rsa_pkcs1_sha512,"
            " rsa_pkcs1_sha1, dsa_sha256 and 3 more",
        ),
        ("psk_key_exchange_modes", 184, 6, "psk_dhe_ke"),
        ("record_size_limit", 190, 6, "16385 bytes"),
    ]
    name = tree.child("extensions", "server_name", "server_name_list", "server_name", "host_name")
    assert name == Field("host_name", 58, 8, b"server", "server")
    share = tree.child("extensions", "key_share", "client_shares", "key_share_entry", "key_exchange", "x25519")
    assert share == Field("x25519", 109, 32, rfc8448.CLIENT_HELLO[109:141])


def test_the_server_s_messages_of_rfc_8448_are_read() -> None:
    hello = whole(rfc8448.SERVER_HELLO)
    assert hello.text == "TLS_AES_128_GCM_SHA256"
    assert [(one.name, one.text) for one in hello.children[-1].children[1:]] == [
        ("key_share", "x25519"),
        ("supported_versions", "TLS 1.3"),
    ]
    encrypted = whole(rfc8448.ENCRYPTED_EXTENSIONS)
    assert encrypted.text == "supported_groups, record_size_limit, server_name"
    entry = whole(rfc8448.CERTIFICATE).child("certificate_list", "certificate_entry")
    assert entry is not None
    assert [(one.name, one.offset, one.length) for one in entry.children] == [
        ("cert_data", 8, 435),
        ("extensions", 443, 2),
    ]
    verify = whole(rfc8448.CERTIFICATE_VERIFY)
    assert (verify.text, verify.children[-1].length) == ("rsa_pss_rsae_sha256", 130)
    for finished in (rfc8448.SERVER_FINISHED, rfc8448.CLIENT_FINISHED):
        assert whole(finished).child("verify_data") == Field("verify_data", 4, 32, finished[4:])


@pytest.mark.parametrize("name", [name for name in vars(rfc8448) if name.isupper()])
def test_a_message_that_is_cut_off_keeps_the_fields_before_the_cut(name: str) -> None:
    data: bytes = vars(rfc8448)[name]
    fields = list(decoded(data).leaves())
    for size in range(len(data)):
        tree = decoded(data[:size], kind=data[0])
        assert len(list(tree.errors())) == 1
        kept = [one for one in tree.leaves() if not one.error]
        if kept and kept[-1].name == "verify_data":  # it has no length of its own
            kept.pop()
        assert kept == fields[: len(kept)]
        assert size - sum(one.length for one in kept) < 440, "what is lost is a part of one field"


# -- OpenSSL --


@pytest.fixture(scope="module")
def tls_1_2(tmp_path_factory: pytest.TempPathFactory) -> Handshake:
    return shaken(contexts(tmp_path_factory.mktemp("tls12"), ssl.TLSVersion.TLSv1_2))


@pytest.fixture(scope="module")
def tls_1_3(tmp_path_factory: pytest.TempPathFactory) -> Handshake:
    return shaken(contexts(tmp_path_factory.mktemp("tls13"), ssl.TLSVersion.TLSv1_3))


def test_every_message_of_a_mutual_handshake_of_tls_1_2_is_read(tls_1_2: Handshake) -> None:
    trees = [whole(data, TLS_1_2) for _, _, data in tls_1_2.messages]
    assert [(side.value, tree.name) for (side, _, _), tree in zip(tls_1_2.messages, trees, strict=True)] == [
        ("client", "ClientHello"),
        ("server", "ServerHello"),
        ("server", "Certificate"),
        ("server", "ServerKeyExchange"),
        ("server", "CertificateRequest"),
        ("server", "ServerHelloDone"),
        ("client", "Certificate"),
        ("client", "ClientKeyExchange"),
        ("client", "CertificateVerify"),
        ("client", "Finished"),
        ("server", "NewSessionTicket"),
        ("server", "Finished"),
    ]
    exchange, request, answer = trees[3], trees[4], trees[7]
    assert [(one.name, one.text) for one in exchange.children[2:]] == [
        ("curve_type", "named_curve"),
        ("named_curve", "x25519"),
        ("public", ""),
        ("algorithm", "ecdsa_secp256r1_sha256"),
        ("signature", ""),
    ]
    assert texts(request, "certificate_types") == ["rsa_sign", "dss_sign", "ecdsa_sign"]
    assert [(one.name, one.length) for one in answer.children[2:]] == [("ecdh_Yc", 33)]
    assert len(texts(trees[2], "certificate_list")) == 2


@pytest.mark.parametrize("suite", [None, 0xC02B])
def test_the_key_exchange_is_told_by_the_suite_or_by_its_structure(tls_1_2: Handshake, suite: int | None) -> None:
    for side, kind in ((Side.SERVER, Kind.SERVER_KEY_EXCHANGE), (Side.CLIENT, Kind.CLIENT_KEY_EXCHANGE)):
        data = tls_1_2.message(side, kind)
        assert whole(data, TLS_1_2, suite) == whole(data, TLS_1_2)


def test_every_message_of_a_mutual_handshake_of_tls_1_3_is_read(tls_1_3: Handshake) -> None:
    trees = [whole(data) for _, _, data in tls_1_3.messages]
    assert [tree.name for tree in trees] == [
        "ClientHello",
        "ServerHello",
        "EncryptedExtensions",
        "CertificateRequest",
        "Certificate",
        "CertificateVerify",
        "Finished",
        "Certificate",
        "CertificateVerify",
        "Finished",
        "NewSessionTicket",
        "NewSessionTicket",
    ]
    assert trees[2].child("extensions", "application_layer_protocol_negotiation").text == "h2"  # type: ignore[union-attr]
    assert len(texts(trees[4], "certificate_list")) == 2


def test_a_ticket_is_withheld_where_it_is_issued_and_where_it_is_offered(tmp_path: Path) -> None:
    both = contexts(tmp_path, ssl.TLSVersion.TLSv1_3)
    first = shaken(both)
    resumed = shaken(both, first.session)
    tickets = [data for side, kind, data in first.messages if kind == Kind.NEW_SESSION_TICKET]
    issued = [whole(ticket) for ticket in tickets]
    hello = resumed.message(Side.CLIENT, Kind.CLIENT_HELLO)
    offered = whole(hello)
    identity = offered.child("extensions", "pre_shared_key", "identities", "psk_identity", "identity")
    assert identity is not None
    assert identity.value is None
    assert "withheld; SHA-256 begins with " in identity.text
    assert identity.text in [one.child("ticket").text for one in issued], "the same ticket has the same words"  # type: ignore[union-attr]
    raw = hello[identity.offset + 2 : identity.end]
    assert raw[:16] in b"".join(tickets)
    for tree, data in ((offered, hello), *zip(issued, tickets, strict=True)):
        assert raw not in masked(data, tree)
        assert not any(raw in one.value for one in tree.walk() if isinstance(one.value, bytes))
    server = whole(resumed.message(Side.SERVER, Kind.SERVER_HELLO))
    assert server.child("extensions", "pre_shared_key").text == "identity 0"  # type: ignore[union-attr]


@given(st.data())
def test_no_bytes_of_a_ticket_are_shown_of_a_message_that_is_cut_off(data: st.DataObject) -> None:
    ticket = bytes(range(100, 200))
    body = bytes(8) + vector(b"n", 1) + vector(ticket, 2) + vector(b"", 2)
    offered = b"\0\x29" + vector(vector(vector(ticket, 2) + bytes(4), 2) + vector(vector(bytes(32), 1), 2), 2)
    hello = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + vector(offered, 2)
    whole_message = data.draw(st.sampled_from([message(Kind.NEW_SESSION_TICKET, body), message(1, hello)]))
    cut = whole_message[: data.draw(st.integers(0, len(whole_message)))]
    tree = decoded(cut, kind=whole_message[0])
    shown = b"".join(one.value for one in tree.walk() if isinstance(one.value, bytes))
    assert ticket[:1] not in shown
    assert ticket[:1] not in masked(cut, tree)


def test_a_hello_retry_request_is_told_by_its_random(tmp_path: Path) -> None:
    client, server = contexts(tmp_path, ssl.TLSVersion.TLSv1_3)
    server.set_ecdh_curve("secp384r1")
    found = shaken((client, server))
    again = whole(found.message(Side.SERVER, Kind.SERVER_HELLO))
    assert again.name == "HelloRetryRequest"
    assert again.child("random").text == "SHA-256 of HelloRetryRequest"  # type: ignore[union-attr]
    assert again.child("extensions", "key_share").text == "secp384r1"  # type: ignore[union-attr]
    second = whole(found.message(Side.CLIENT, Kind.CLIENT_HELLO, 1))
    assert second.child("extensions", "key_share").text == "secp384r1"  # type: ignore[union-attr]
    assert whole(found.message(Side.SERVER, Kind.SERVER_HELLO, 1)).name == "ServerHello"


def test_a_server_that_could_do_better_says_so_in_its_random(tmp_path: Path) -> None:
    client, server = contexts(tmp_path, ssl.TLSVersion.TLSv1_2)
    server.maximum_version = ssl.TLSVersion.TLSv1_3
    hello = shaken((client, server)).message(Side.SERVER, Kind.SERVER_HELLO)
    random = whole(hello, TLS_1_2).child("random")
    assert random is not None
    assert random.text == "downgraded: the server supports TLS 1.3 and has selected TLS 1.2"
    older = hello[:37] + b"\0" + hello[38:]
    assert whole(older, TLS_1_2).child("random").text.endswith("selected TLS 1.1 or earlier")  # type: ignore[union-attr]


# -- messages made by hand --


@pytest.mark.parametrize(
    ("kind", "body", "version", "suite", "fields"),
    [
        (Kind.HELLO_REQUEST, b"", TLS_1_2, None, []),
        (Kind.SERVER_HELLO_DONE, b"", TLS_1_2, None, []),
        (Kind.END_OF_EARLY_DATA, b"", TLS_1_3, None, []),
        (Kind.KEY_UPDATE, b"\1", TLS_1_3, None, [("request_update", 1, "update_requested")]),
        (Kind.KEY_UPDATE, b"\0", TLS_1_3, None, [("request_update", 0, "update_not_requested")]),
        (Kind.MESSAGE_HASH, b"h" * 32, TLS_1_3, None, [("hash", b"h" * 32, "")]),
        (99, b"abc", TLS_1_3, None, [("body", b"abc", "")]),
        (
            Kind.CERTIFICATE_STATUS,
            b"\1" + vector(b"ocsp", 3),
            TLS_1_2,
            None,
            [("status_type", 1, "ocsp"), ("response", b"ocsp", "")],
        ),
        (Kind.CERTIFICATE_VERIFY, vector(b"sig", 2), TLS_1_1, None, [("signature", b"sig", "")]),
        (
            Kind.CERTIFICATE_VERIFY,
            b"\x08\x07" + vector(b"sig", 2),
            TLS_1_2,
            None,
            [("algorithm", 0x0807, "ed25519"), ("signature", b"sig", "")],
        ),
        (
            Kind.NEW_SESSION_TICKET,
            bytes(4) + vector(b"", 2),
            TLS_1_2,
            None,
            [("ticket_lifetime_hint", 0, ""), ("ticket", None, "0 bytes, withheld")],
        ),
        (
            Kind.CERTIFICATE_REQUEST,
            vector(b"\1", 1) + vector(b"", 2),
            TLS_1_0,
            None,
            [("certificate_types", None, "rsa_sign"), ("authorities", None, "")],
        ),
        (
            Kind.SERVER_KEY_EXCHANGE,
            vector(b"p" * 256, 2) + vector(b"\2", 2) + vector(b"y" * 256, 2) + b"\x04\x01" + vector(b"sig", 2),
            TLS_1_2,
            None,
            [
                ("dh_p", b"p" * 256, ""),
                ("dh_g", b"\2", ""),
                ("dh_Ys", b"y" * 256, ""),
                ("algorithm", 0x0401, "rsa_pkcs1_sha256"),
                ("signature", b"sig", ""),
            ],
        ),
        (
            Kind.SERVER_KEY_EXCHANGE,
            b"\x03\0\x17" + vector(b"q" * 65, 1),
            TLS_1_2,
            0xC018,  # TLS_ECDH_anon_WITH_AES_128_CBC_SHA
            [("curve_type", 3, "named_curve"), ("named_curve", 23, "secp256r1"), ("public", b"q" * 65, "")],
        ),
        (Kind.SERVER_KEY_EXCHANGE, b"hint", TLS_1_2, 0x00A8, [("params", b"hint", "")]),  # PSK
        (
            Kind.CLIENT_KEY_EXCHANGE,
            vector(b"e" * 256, 2),
            TLS_1_2,
            0x009C,  # TLS_RSA_WITH_AES_128_GCM_SHA256
            [("encrypted_pre_master_secret", b"e" * 256, "")],
        ),
        (Kind.CLIENT_KEY_EXCHANGE, vector(b"y" * 256, 2), TLS_1_2, 0x009E, [("dh_Yc", b"y" * 256, "")]),
        (
            Kind.CLIENT_KEY_EXCHANGE,
            vector(b"y" * 256, 2),
            TLS_1_2,
            None,
            [("encrypted_pre_master_secret_or_dh_Yc", b"y" * 256, "")],
        ),
        (Kind.CLIENT_KEY_EXCHANGE, b"abc", TLS_1_2, None, [("exchange_keys", b"abc", "")]),
    ],
)
def test_a_message_is_read_by_its_type_version_and_suite(
    kind: int, body: bytes, version: int, suite: int | None, fields: list[tuple[str, object, str]]
) -> None:
    tree = whole(message(kind, body), version, suite)
    assert tree.name == message_name(kind)
    found = [(one.name, one.value, "" if one.name == "hash" else one.text) for one in tree.children[2:]]
    assert found == fields


@given(st.data())
def test_fields_remembered_from_other_messages_are_those_that_are_read(data: st.DataObject) -> None:
    hello = bytearray(data.draw(st.sampled_from((rfc8448.CLIENT_HELLO, rfc8448.SERVER_HELLO))))
    whole(bytes(hello))
    for at in data.draw(st.lists(st.integers(4, len(hello) - 1), max_size=3)):
        hello[at] ^= data.draw(st.integers(1, 255))
    remembered = decoded(bytes(hello))
    _made_once.cache_clear()
    assert decoded(bytes(hello)) == remembered


@pytest.mark.parametrize("cut", [0, 1, 3, 1216])
@pytest.mark.parametrize("more", [b"", b"x"])
def test_a_key_share_has_its_parts_as_far_as_they_are_there(cut: int, more: bytes) -> None:
    keys = b"m" * 1184 + b"x" * 32
    entry = b"\x11\xec" + vector(keys[: len(keys) - cut] + more, 2)
    extension = b"\0\x33" + vector(vector(entry, 2), 2)
    hello = message(Kind.CLIENT_HELLO, b"\x03\x03" + bytes(32) + b"\0\0\2\x13\1\1\0" + vector(extension, 2))
    tree = decoded(hello)
    shares = tree.child("extensions", "key_share", "client_shares", "key_share_entry", "key_exchange")
    assert shares is not None
    whole_parts = ["ML-KEM-768"] * (cut < 1216) + ["x25519"] * (cut == 0 or (cut == 1 and more == b"x"))
    names = [one.name for one in shares.children if one.name not in ("length", "undecoded")]
    assert names == whole_parts
    assert bool(list(tree.errors())) is not (cut == len(more) <= 1)


ECDHE, ECDH_ANON, DHE, PSK, ECDHE_PSK, UNKNOWN_SUITE = 0xC02B, 0xC018, 0x009E, 0x00A8, 0xC035, 0xFFFF


@pytest.mark.parametrize(
    ("params", "suite", "curve"),
    [
        (b"\x03\0\x17" + vector(b"q" * 65, 1), ECDHE, 0x17),
        (b"\x03\0\x17" + vector(b"q" * 65, 1), ECDH_ANON, 0x17),
        (b"\x03\0\x17" + vector(b"q" * 65, 1), None, 0x17),
        (b"\x03\0\x17" + vector(b"q" * 65, 1), UNKNOWN_SUITE, 0x17),
        (b"\x03\0\x17" + vector(b"q" * 65, 1), DHE, None),
        (b"\x03\0\x17" + vector(b"q" * 65, 1), PSK, None),
        (b"\x03\0\x17" + vector(b"q" * 65, 1), ECDHE_PSK, None),
        (b"\x03\xfe\xfe" + vector(b"q" * 65, 1), ECDHE, 0xFEFE),
        (b"\x03\xfe\xfe" + vector(b"q" * 65, 1), None, None),
        (b"\x01\0\x17" + vector(b"q" * 65, 1), ECDHE, None),
        (b"\x03\0\x17", ECDHE, 0x17),
        (b"\x03\0", ECDHE, None),
        (b"", ECDHE, None),
        (b"", None, None),
    ],
)
def test_the_curve_of_a_key_exchange_is_the_one_that_is_decoded(
    params: bytes, suite: int | None, curve: int | None
) -> None:
    data = message(Kind.SERVER_KEY_EXCHANGE, params)
    assert named_curve_of_message(data, suite) == curve
    field = decoded(data, TLS_1_2, suite).child("named_curve")
    assert (field.value if field is not None else None) == curve


@given(st.binary(max_size=80), st.sampled_from([None, 0, ECDHE, ECDH_ANON, DHE, PSK, UNKNOWN_SUITE]))
def test_any_key_exchange_has_the_curve_that_is_decoded(params: bytes, suite: int | None) -> None:
    for start in (b"", b"\x03", b"\x03\0\x1d"):
        data = message(Kind.SERVER_KEY_EXCHANGE, start + params)
        field = decoded(data, TLS_1_2, suite).child("named_curve")
        assert named_curve_of_message(data, suite) == (field.value if field is not None else None)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (message(Kind.KEY_UPDATE, b"\1\2"), "byte 5: 1 byte after the end of KeyUpdate"),
        (message(Kind.KEY_UPDATE, b""), "byte 4: wanted 1 byte of request_update, got 0"),
        (message(Kind.KEY_UPDATE, b"\1") + b"\0\0", "byte 5: 2 bytes after the end of KeyUpdate"),
        (message(Kind.FINISHED, bytes(12))[:10], "byte 10: Finished has 12 bytes by its length, of which 6 are here"),
        (b"\x14\0", "byte 1: wanted 3 bytes of length, got 1"),
        (message(Kind.SERVER_HELLO_DONE, b"x"), "byte 4: 1 byte after the end of ServerHelloDone"),
        (
            message(Kind.ENCRYPTED_EXTENSIONS, vector(b"\0\x10" + vector(b"\0\3\2h2", 2), 2) + b"!"),
            "byte 15: 1 byte after the end of EncryptedExtensions",
        ),
        (
            message(Kind.CLIENT_HELLO, b"\x03\x03" + bytes(32) + b"\0" + vector(b"\x13\1\x13", 2) + b"\1\0"),
            "byte 43: wanted cipher_suites of 2 bytes each, got 3 bytes",
        ),
    ],
)
def test_an_error_has_the_offset_and_the_reason(data: bytes, error: str) -> None:
    assert list(decoded(data).errors()) == [error]


def test_an_extension_that_is_wrong_does_not_hide_the_others() -> None:
    bad, good = b"\0\x2b" + vector(b"\x09\x03\x04", 2), b"\0\x10" + vector(vector(vector(b"h2", 1), 2), 2)
    hello = b"\x03\x03" + bytes(32) + b"\0" + vector(b"\x13\1", 2) + b"\1\0" + vector(bad + good + good, 2)
    tree = decoded(message(1, hello))
    assert list(tree.errors()) == [
        "byte 54: versions has 9 bytes by its length, of which 2 are here",
        "byte 63: a second extension application_layer_protocol_negotiation",
    ]
    assert tree.child("extensions", "application_layer_protocol_negotiation").text == "h2"  # type: ignore[union-attr]


def test_long_lists_are_read_up_to_a_bound_and_the_rest_stays_raw() -> None:
    suites = vector(b"\x13\1" * 32_000, 2)
    tree = decoded(message(1, b"\x03\x03" + bytes(32) + b"\0" + suites + b"\1\0"))
    found = tree.child("cipher_suites")
    assert found is not None
    assert len(found.children) == MOST_ITEMS + 2
    assert found.children[-1].name == "more"
    assert found.children[-1].text == f"{64_000 - 2 * MOST_ITEMS} bytes, too many to decode"
    assert found.text.endswith("and 500 more")
    entries = (vector(b"c", 3) + vector((b"\xfa\xfa" + vector(b"", 2)) * 300, 2)) * 600
    big = decoded(message(Kind.CERTIFICATE, b"\0" + vector(entries, 3)))
    assert MOST_FIELDS <= len(list(big.walk())) < MOST_FIELDS + 200


# -- any bytes --

_KINDS = st.sampled_from([*map(int, HandshakeType), 99])
_VERSIONS = st.sampled_from([0, 0x0300, TLS_1_0, TLS_1_2, TLS_1_3])
_SUITES = st.sampled_from([None, 0x1301, 0xC02B, 0x009C, 0x009E, 0x00A8, 0xC018])


@given(_KINDS, st.binary(max_size=300), _VERSIONS, _SUITES)
def test_any_bytes_are_read_without_an_exception(kind: int, data: bytes, version: int, suite: int | None) -> None:
    for one in (data, message(kind, data)):
        checked(decode_message(kind, one, version, suite=suite), one)


_CHANGES = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4)


@given(st.integers(0, 23), _CHANGES, _VERSIONS, _SUITES)
def test_real_messages_with_a_few_other_bytes_are_read(
    tls_1_2: Handshake,
    tls_1_3: Handshake,
    place: int,
    changes: list[tuple[int, int, bytes]],
    version: int,
    suite: int | None,
) -> None:
    messages = [*tls_1_2.messages, *tls_1_3.messages]
    real = bytearray(messages[place].data)
    for at, removed, added in changes:
        real[at : at + removed] = added
    changed = bytes(real)
    for kind in {messages[place].kind, int(Kind.CLIENT_HELLO)}:
        checked(decode_message(kind, changed, version, suite=suite), changed)


# -- compressed certificates --


def _zstd() -> Any:
    try:
        return importlib.import_module("compression.zstd")  # from Python 3.14 on
    except ImportError:
        return importlib.import_module("backports.zstd")


ZSTD = _zstd()
#: By their numbers: the names, and what compresses.
ALGORITHMS = {1: ("zlib", zlib.compress), 2: ("brotli", brotli.compress), 3: ("zstd", ZSTD.compress)}


def compressed(content: bytes, size: int | None = None, algorithm: int = 1) -> bytes:
    body = algorithm.to_bytes(2, "big") + (len(content) if size is None else size).to_bytes(3, "big")
    return message(Kind.COMPRESSED_CERTIFICATE, body + vector(ALGORITHMS[algorithm][1](content), 3))


def of_zstd_with_a_window(log: int) -> bytes:
    """An empty CompressedCertificate whose decompressor has to keep 2 ** log bytes."""
    frame = bytes.fromhex("28b52ffd 00") + bytes([(log - 10) << 3]) + bytes.fromhex("010000")
    return message(Kind.COMPRESSED_CERTIFICATE, b"\0\3\0\0\0" + vector(frame, 3))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("content", [rfc8448.CERTIFICATE[4:], b"", bytes(MAX_MESSAGE - 4)], ids=len)
def test_a_compressed_certificate_is_a_certificate_message_once_it_is_decompressed(
    algorithm: int, content: bytes
) -> None:
    data = compressed(content, algorithm=algorithm)
    assert whole(data).text == f"{ALGORITHMS[algorithm][0]}, {len(content)} bytes uncompressed"
    assert decompressed_certificate(data) == b"\x0b" + len(content).to_bytes(3, "big") + content


def test_zstd_may_want_a_window_of_8_mib() -> None:
    assert decompressed_certificate(of_zstd_with_a_window(23)) == bytes.fromhex("0b000000")
    assert decompressed_certificate(of_zstd_with_a_window(24)) == DecodeError(
        12, "wanted the format of zstd, got other bytes"
    )


@pytest.mark.parametrize("algorithm", [2, 3])
def test_a_decompressor_that_is_not_installed_is_named_with_what_installs_it(
    algorithm: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("brotli", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    error = f"{ALGORITHMS[algorithm][0]} is not installed: pip install 'meshtls[capture]'"
    assert decompressed_certificate(compressed(b"abc", algorithm=algorithm)) == DecodeError(4, error)
    assert decompressed_certificate(compressed(b"abc")) == bytes.fromhex("0b000003") + b"abc"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        *((compressed(b"abc", 4, one), "byte 12: wanted 4 bytes uncompressed, got 3") for one in ALGORITHMS),
        *(
            (compressed(bytes(1 << 24), 1000, one), "byte 12: wanted 1000 bytes uncompressed, got at least 1001")
            for one in ALGORITHMS
        ),
        (
            compressed(b"abc", MAX_MESSAGE),
            f"byte 6: wanted at most {MAX_MESSAGE - 4} bytes uncompressed, got {MAX_MESSAGE}",
        ),
        (
            message(Kind.COMPRESSED_CERTIFICATE, b"\0\4\0\0\3" + vector(b"abc", 3)),
            "byte 4: wanted the algorithm zlib, brotli or zstd, got 0x0004",
        ),
        (compressed(b"abc")[:-1], "byte 9: wanted a whole CompressedCertificate, got one that is cut off"),
        (b"\x19", "byte 9: wanted a whole CompressedCertificate, got one that is cut off"),
        *(
            (
                message(Kind.COMPRESSED_CERTIFICATE, bytes((0, number, 0, 0, 3)) + vector(b"none", 3)),
                f"byte 12: wanted the format of {name}, got other bytes",
            )
            for number, (name, _) in ALGORITHMS.items()
        ),
    ],
)
def test_a_certificate_that_does_not_decompress_to_its_stated_length_is_refused(data: bytes, error: str) -> None:
    found = decompressed_certificate(data)
    assert not isinstance(found, bytes)
    assert found.text == error


def test_the_random_of_a_hello_retry_request_is_that_of_the_standard() -> None:
    assert HELLO_RETRY_REQUEST.hex() == "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
