"""The decoder of TLS beside tshark, on captured handshakes of OpenSSL: every field that both print is the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from meshtls.capture.certificates import certificates_in, with_certificates
from meshtls.wire.side import Side
from meshtls.wire.tls.assembling import MessageAssembler
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import ContentType
from meshtls.wire.tls.records import Record, RecordReader
from tests.support.capture import captured, dissected
from tests.unit.wire.tls.handshakes import Handshake, contexts, shaken

_Words = Callable[[Field, bytes], str | None]


def _decimal(field: Field, _: bytes) -> str:
    return str(field.value)


def _hex(digits: int) -> _Words:
    return lambda field, _: f"0x{field.value:0{digits}x}"


def _bytes(prefix: int = 0) -> _Words:
    """The bytes without the length before them; nothing if there are none."""
    return lambda field, data: data[field.offset + prefix : field.end].hex(":") or None


def _text(field: Field, _: bytes) -> str:
    return field.text


def _size(prefix: int) -> _Words:
    return lambda field, _: str(field.length - prefix)


_KEY_SHARE = "tls.handshake.extensions_key_share"
_PSK = "tls.handshake.extensions.psk"
#: Our fields, by their names and those of what they stand in, and tshark's, with the value in its words.
_FIELDS: Mapping[tuple[str, str], list[tuple[str, _Words]]] = {
    ("message", "type"): [("tls.handshake.type", _decimal)],
    ("message", "length"): [("tls.handshake.length", _decimal)],
    ("message", "legacy_version"): [("tls.handshake.version", _hex(4))],
    ("message", "random"): [("tls.handshake.random", _bytes())],
    **{
        ("message", name): [("tls.handshake.session_id_length", _size(1)), ("tls.handshake.session_id", _bytes(1))]
        for name in ("legacy_session_id", "legacy_session_id_echo")
    },
    ("cipher_suites", "length"): [("tls.handshake.cipher_suites_length", _decimal)],
    ("cipher_suites", "cipher_suite"): [("tls.handshake.ciphersuite", _hex(4))],
    ("message", "cipher_suite"): [("tls.handshake.ciphersuite", _hex(4))],
    ("legacy_compression_methods", "length"): [("tls.handshake.comp_methods_length", _decimal)],
    ("legacy_compression_methods", "compression_method"): [("tls.handshake.comp_method", _decimal)],
    ("message", "legacy_compression_method"): [("tls.handshake.comp_method", _decimal)],
    ("extensions", "length"): [("tls.handshake.extensions_length", _decimal)],
    ("extension", "type"): [("tls.handshake.extension.type", _decimal)],
    ("extension", "length"): [("tls.handshake.extension.len", _decimal)],
    ("server_name_list", "length"): [("tls.handshake.extensions_server_name_list_len", _decimal)],
    ("server_name", "name_type"): [("tls.handshake.extensions_server_name_type", _decimal)],
    ("server_name", "host_name"): [
        ("tls.handshake.extensions_server_name_len", _size(2)),
        ("tls.handshake.extensions_server_name", _text),
    ],
    ("ec_point_format_list", "length"): [("tls.handshake.extensions_ec_point_formats_length", _decimal)],
    ("ec_point_format_list", "ec_point_format"): [("tls.handshake.extensions_ec_point_format", _decimal)],
    ("named_group_list", "length"): [("tls.handshake.extensions_supported_groups_length", _decimal)],
    ("named_group_list", "named_group"): [("tls.handshake.extensions_supported_group", _hex(4))],
    ("protocol_name_list", "length"): [("tls.handshake.extensions_alpn_len", _decimal)],
    ("protocol_name_list", "protocol_name"): [
        ("tls.handshake.extensions_alpn_str_len", _size(1)),
        ("tls.handshake.extensions_alpn_str", _text),
    ],
    ("supported_signature_algorithms", "length"): [("tls.handshake.sig_hash_alg_len", _decimal)],
    ("supported_signature_algorithms", "scheme"): [("tls.handshake.sig_hash_alg", _hex(4))],
    ("renegotiation_info", "renegotiated_connection"): [("tls.handshake.extensions_reneg_info_len", _size(1))],
    ("versions", "length"): [("tls.handshake.extensions.supported_versions_len", _decimal)],
    ("versions", "version"): [("tls.handshake.extensions.supported_version", _hex(4))],
    ("supported_versions", "selected_version"): [("tls.handshake.extensions.supported_version", _hex(4))],
    ("ke_modes", "length"): [("tls.extension.psk_ke_modes_length", _decimal)],
    ("ke_modes", "ke_mode"): [("tls.extension.psk_ke_mode", _decimal)],
    ("client_shares", "length"): [(f"{_KEY_SHARE}_client_length", _decimal)],
    ("key_share_entry", "group"): [(f"{_KEY_SHARE}_group", _decimal)],
    ("server_share", "group"): [(f"{_KEY_SHARE}_group", _decimal)],
    ("key_share", "selected_group"): [(f"{_KEY_SHARE}_selected_group", _decimal)],
    ("key_exchange", "length"): [(f"{_KEY_SHARE}_key_exchange_length", _decimal)],
    **{
        ("key_exchange", name): [(f"{_KEY_SHARE}_key_exchange", _bytes())]
        for name in ("x25519", "secp384r1", "secp256r1")
    },
    ("identities", "length"): [(f"{_PSK}.identities.length", _decimal)],
    ("psk_identity", "identity"): [
        (f"{_PSK}.identity.identity_length", _size(2)),
        (f"{_PSK}.identity.identity", _bytes(2)),
    ],
    ("psk_identity", "obfuscated_ticket_age"): [(f"{_PSK}.identity.obfuscated_ticket_age", _decimal)],
    ("binders", "length"): [(f"{_PSK}.binders_len", _decimal)],
    ("pre_shared_key", "selected_identity"): [(f"{_PSK}.identity.selected", _decimal)],
    ("certificate_list", "length"): [("tls.handshake.certificates_length", _decimal)],
    ("padding", "padding"): [("tls.handshake.extensions_padding_data", _bytes())],
    ("message", "curve_type"): [("tls.handshake.server_curve_type", _hex(2))],
    ("message", "named_curve"): [("tls.handshake.server_named_curve", _hex(4))],
    ("message", "public"): [("tls.handshake.server_point_len", _size(1)), ("tls.handshake.server_point", _bytes(1))],
    ("message", "ecdh_Yc"): [("tls.handshake.client_point_len", _size(1)), ("tls.handshake.client_point", _bytes(1))],
    ("message", "algorithm"): [("tls.handshake.sig_hash_alg", _hex(4))],
    ("certificate_types", "length"): [("tls.handshake.cert_types_count", _decimal)],
    ("certificate_types", "certificate_type"): [("tls.handshake.cert_type", _decimal)],
    ("authorities", "length"): [("tls.handshake.dnames_len", _decimal)],
    ("authorities", "distinguished_name"): [("tls.handshake.dname_len", _size(2))],
    ("message", "certificate_request_context"): [("tls.handshake.certificate_request_context_length", _size(1))],
    ("message", "ticket_lifetime_hint"): [("tls.handshake.session_ticket_lifetime_hint", _decimal)],
    ("message", "ticket_lifetime"): [("tls.handshake.session_ticket_lifetime_hint", _decimal)],
    ("message", "ticket_age_add"): [("tls.handshake.session_ticket_age_add", _decimal)],
    ("message", "ticket_nonce"): [
        ("tls.handshake.session_ticket_nonce_length", _size(1)),
        ("tls.handshake.session_ticket_nonce", _bytes(1)),
    ],
    ("message", "ticket"): [
        ("tls.handshake.session_ticket_length", _size(2)),
        ("tls.handshake.session_ticket", _bytes(2)),
    ],
}
#: The signature has two names of tshark's, by its message.
_SIGNATURES = {
    12: [("tls.handshake.sig_len", _size(2)), ("tls.handshake.sig", _bytes(2))],
    15: [("tls.handshake.client_cert_vrfy.sig_len", _size(2)), ("tls.handshake.client_cert_vrfy.sig", _bytes(2))],
}
#: What tshark computes, repeats in other words, or prints without its value.
_LEFT_OUT = frozenset(
    f"tls.handshake.{name}"
    for name in (
        "ja3",
        "ja3_full",
        "ja3s",
        "ja3s_full",
        "random_time",
        "random_bytes",
        "sig_hash_hash",
        "sig_hash_sig",
        "extension.data",
        "verify_data",
        "extensions.psk.binders",
    )
)


def ours(data: bytes, version: int) -> dict[str, list[str]]:
    """The fields of a message under tshark's names."""
    tree = with_certificates(decode_message(data[0], data, version))
    assert list(tree.errors()) == []
    found: dict[str, list[str]] = {}

    def walk(field: Field, inside: str) -> None:
        for one in field.children:
            names = _SIGNATURES[data[0]] if one.name == "signature" and inside == "message" else None
            kind = inside
            if inside == field.name and field.children[0].name == "type" and one.name in ("type", "length"):
                kind = "extension"
            for name, words in names or _FIELDS.get((kind, one.name), []):
                word = words(one, data)
                if word is not None:
                    found.setdefault(name, []).append(word)
            if one.name == "cert_data":
                found.setdefault("tls.handshake.certificate_length", []).append(str(one.length - 3))
                found.setdefault("tls.handshake.certificate", []).append(data[one.offset + 3 : one.end].hex(":"))
            else:
                walk(one, one.name)

    walk(tree, "message")
    for one in certificates_in(tree):
        names = one.child("Certificate", "tbsCertificate", "extensions", "Extensions", "subjectAltName")
        if names is not None:
            uris = [text.removeprefix("URI:") for text in names.text.split(", ") if text.startswith("URI:")]
            found.setdefault("x509ce.uniformResourceIdentifier", []).extend(uris)
    return found


def theirs(message: Any) -> dict[str, list[str]]:
    """The fields of a message as tshark has them."""
    found: dict[str, list[str]] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, key)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, name)
        elif name.startswith(("tls.", "x509ce.uniform")) and name not in _LEFT_OUT:
            found.setdefault(name, []).append(value)

    walk(message, "")
    return found


def layers_of(dissection: str) -> list[dict[str, Any]]:
    """The layers of each TCP packet; another is the mark at the end of a capture."""
    found: list[dict[str, Any]] = [packet["_source"]["layers"] for packet in json.loads(dissection)]
    return [layers for layers in found if "tcp" in layers]


def messages_in(layers: Any) -> Iterator[Any]:
    """The handshake messages that tshark found in one packet, in order."""
    if isinstance(layers, dict):
        if "tls.handshake.type" in layers:
            yield layers
        else:
            for inner in layers.values():
                yield from messages_in(inner)
    elif isinstance(layers, list):
        for inner in layers:
            yield from messages_in(inner)


def replay(handshake: Handshake, listener: socket.socket) -> int:
    """Send what both sides sent over a TCP connection; the client's port."""
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with client, server:
        for side, data in handshake.flights:
            sender, receiver = (client, server) if side is Side.CLIENT else (server, client)
            sender.sendall(data)
            left = len(data)
            while left:
                left -= len(receiver.recv(left))
        return int(client.getsockname()[1])


def _retried(directory: Path, version: ssl.TLSVersion) -> list[Handshake]:
    client, server = contexts(directory, version)
    server.set_ecdh_curve("secp384r1")
    client.keylog_filename = str(directory / "keys.log")
    return [shaken((client, server))]


def _resumed(directory: Path, version: ssl.TLSVersion) -> list[Handshake]:
    both = contexts(directory, version)
    both[0].keylog_filename = str(directory / "keys.log")
    first = shaken(both)
    return [first, shaken(both, first.session)]


@pytest.mark.parametrize(
    ("make", "version", "count"),
    [
        (_resumed, ssl.TLSVersion.TLSv1_2, 12 + 4),
        (_resumed, ssl.TLSVersion.TLSv1_3, 12 + 6),
        (_retried, ssl.TLSVersion.TLSv1_3, 14),
    ],
    ids=["TLS 1.2, full and resumed", "TLS 1.3, full and resumed", "TLS 1.3 with HelloRetryRequest"],
)
async def test_tshark_has_the_same_fields_of_every_message(
    tmp_path: Path, make: Callable[[Path, ssl.TLSVersion], list[Handshake]], version: ssl.TLSVersion, count: int
) -> None:
    handshakes = make(tmp_path, version)
    file = tmp_path / "capture.pcap"
    file.touch()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        async with captured(port, file):
            ports = [await asyncio.to_thread(replay, one, listener) for one in handshakes]
    packets = layers_of(await dissected(file, port, tmp_path / "keys.log"))

    compared = 0
    for handshake, client_port in zip(handshakes, ports, strict=True):
        for side in Side:
            ports_now = [str(client_port), str(port)]
            ends = ports_now if side is Side.CLIENT else ports_now[::-1]
            theirs_now = [
                message
                for layers in packets
                if [layers["tcp"]["tcp.srcport"], layers["tcp"]["tcp.dstport"]] == ends
                for message in messages_in(layers.get("tls"))
            ]
            ours_now = [one for one in handshake.messages if one.side is side]
            assert [int(one["tls.handshake.type"]) for one in theirs_now] == [one.kind for one in ours_now]
            for theirs_one, ours_one in zip(theirs_now, ours_now, strict=True):
                assert theirs(theirs_one) == ours(ours_one.data, int(version))
                compared += 1
    assert compared == count


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tshark_has_the_same_records(tmp_path: Path, version: ssl.TLSVersion) -> None:
    (handshake, *_) = _resumed(tmp_path, version)
    file = tmp_path / "capture.pcap"
    file.touch()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        async with captured(port, file):
            await asyncio.to_thread(replay, handshake, listener)
    packets = layers_of(await dissected(file, port, None))
    for side in Side:
        reader, assembler = RecordReader(side), MessageAssembler()
        records: list[Record] = reader.feed(handshake.sent(side))
        assert reader.error is None
        found = [
            record
            for layers in packets
            if (layers["tcp"]["tcp.dstport"] == str(port)) is (side is Side.CLIENT)
            for record in records_in(layers.get("tls"))
        ]
        assert found == [(one.content_type, f"0x{one.version:04x}", one.length) for one in records]
        first = next(one for one in records if one.content_type == ContentType.HANDSHAKE)
        hello = handshake.messages[0 if side is Side.CLIENT else 1].data
        assert assembler.feed(first.payload)[0] == hello


def records_in(layers: Any) -> Iterator[tuple[int, str, int]]:
    """The records that tshark found in one packet: content type, version and length."""
    if isinstance(layers, dict):
        if "tls.record.length" in layers:
            kind = layers.get("tls.record.content_type") or layers["tls.record.opaque_type"]
            yield int(kind), layers["tls.record.version"], int(layers["tls.record.length"])
        else:
            for inner in layers.values():
                yield from records_in(inner)
    elif isinstance(layers, list):
        for inner in layers:
            yield from records_in(inner)
