"""The bytes that one side of TLS sent, as fields: real handshakes of OpenSSL, cut ones, and bytes that are no TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.side import Side
from meshtls.wire.tls.explained import begins_like_tls, tls_fields
from meshtls.wire.tls.fields import Field
from tests.unit.wire.tls.handshakes import contexts, shaken
from tests.unit.wire.tls.rfc8448 import CLIENT_HELLO
from tests.unit.wire.tls.trees import checked

HEADER = ["content type", "version", "length"]
ALERT = bytes.fromhex("15 0303 0002 0228")


def record(payload: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + len(payload).to_bytes(2, "big") + payload


def contents(tree: Field) -> list[tuple[str, ...]]:
    """What is in each record, after its header."""
    assert all([field.name for field in one.children[:3]] == HEADER for one in tree.children if one.name == "record")
    return [tuple(field.name for field in one.children[3:]) or (one.name,) for one in tree.children]


def test_an_alert_is_explained_field_by_field() -> None:
    tree = checked(tls_fields(ALERT + ALERT), ALERT + ALERT)
    assert [(one.name, one.offset, one.length, one.value, one.text) for one in tree.leaves()][5:] == [
        ("content type", 7, 1, 21, "alert"),
        ("version", 8, 2, 0x0303, "TLS 1.2"),
        ("length", 10, 2, 2, ""),
        ("level", 12, 1, 2, "fatal"),
        ("description", 13, 1, 40, "handshake_failure"),
    ]


def test_messages_of_a_handshake_of_tls_1_2_are_explained_until_they_are_encrypted(tmp_path: Path) -> None:
    done = shaken(contexts(tmp_path, ssl.TLSVersion.TLSv1_2))
    client, server = (checked(tls_fields(data), data) for data in map(done.sent, Side))
    assert contents(client) == [
        ("ClientHello",), ("Certificate",), ("ClientKeyExchange",), ("CertificateVerify",), ("ChangeCipherSpec",),
        ("payload",),
    ]  # fmt: skip
    assert client.children[-1].children[-1].text == "encrypted"
    assert [one for one in contents(server) if one[0] != "payload"][:4] == [
        ("ServerHello",), ("Certificate",), ("ServerKeyExchange",), ("CertificateRequest",),
    ]  # fmt: skip
    assert not [*client.errors(), *server.errors()]


def test_only_the_hellos_of_tls_1_3_are_explained(tmp_path: Path) -> None:
    done = shaken(contexts(tmp_path, ssl.TLSVersion.TLSv1_3))
    client, server = (checked(tls_fields(data), data) for data in map(done.sent, Side))
    assert contents(client)[:3] == [("ClientHello",), ("ChangeCipherSpec",), ("ApplicationData",)]
    assert contents(server)[:3] == [("ServerHello",), ("ChangeCipherSpec",), ("ApplicationData",)]
    assert not [*client.errors(), *server.errors()]


def test_several_messages_in_a_record_are_each_explained_and_a_part_of_one_is_not() -> None:
    data = record(CLIENT_HELLO + CLIENT_HELLO + CLIENT_HELLO[:50]) + record(CLIENT_HELLO[50:])
    tree = checked(tls_fields(data), data)
    assert contents(tree)[0] == ("ClientHello", "ClientHello", "fragment")
    second = tree.children[0].children[4]
    assert (second.offset, second.length) == (5 + len(CLIENT_HELLO), len(CLIENT_HELLO))


def test_a_record_without_a_payload_has_its_header() -> None:
    data = record(b"", 23)
    assert contents(checked(tls_fields(data), data)) == [("record",)]


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        (ALERT + ALERT[:6], ["the record is not whole"]),
        (ALERT[:3], ["the record is not whole"]),
        (ALERT + b"GET / HTTP/1.1", ["byte 7: wanted a content type from 20 to 24, got 71"]),
        (b"\x16\x02\x00\x00\x01\x00", ["byte 1: wanted a version with the major number 3, got 2"]),
        (ALERT, []),
    ],
)
def test_bytes_that_are_no_record_are_one_field_with_the_reason(data: bytes, errors: list[str]) -> None:
    tree = checked(tls_fields(data), data)
    assert list(tree.errors()) == errors
    assert (tree.children[-1].name == "undecoded") == bool(errors)


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        (b"\x16\x03", True), (b"\x14\x03\x01", True), (b"\x18\x03\x04", True),
        (b"", False), (b"\x16", False), (b"\x16\x02", False), (b"\x11\x00", False), (b"\x19\x03", False),
    ],
)  # fmt: skip
def test_records_are_told_by_their_first_bytes(data: bytes, begins: bool) -> None:
    assert begins_like_tls(data) is begins


pieces = st.sampled_from([ALERT, record(CLIENT_HELLO), record(b"\x01", 20), record(b"xyz", 23)]) | st.binary(
    max_size=30
)


@given(st.lists(pieces, max_size=5))
def test_each_byte_belongs_to_one_field(parts: list[bytes]) -> None:
    data = b"".join(parts)
    checked(tls_fields(data), data)
