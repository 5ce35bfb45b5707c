"""Alerts, ChangeCipherSpec, heartbeats and SSL 2.0's hello, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.tls.names import Alert, ContentType
from meshtls.wire.tls.payloads import decode_payload
from meshtls.wire.tls.records import SSL_2_0_HELLO
from tests.unit.wire.tls.test_tls_records import SSL_2_0
from tests.unit.wire.tls.trees import checked


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\1\0", "warning close_notify"),
        (b"\2\x30", "fatal unknown_ca"),
        (b"\2\x79", "fatal ech_required"),
        (b"\3\xc8", "0x03 200"),
    ],
)
def test_an_alert_is_said_in_words(payload: bytes, text: str) -> None:
    tree = checked(decode_payload(ContentType.ALERT, payload), payload)
    assert (tree.name, tree.text, list(tree.errors())) == ("Alert", text, [])
    assert [(one.name, one.value) for one in tree.children] == [("level", payload[0]), ("description", payload[1])]


def test_an_alert_that_is_too_long_or_too_short_for_one_is_said_so() -> None:
    sealed = checked(decode_payload(ContentType.ALERT, bytes(24)), bytes(24))
    assert [one.text for one in sealed.children] == ["encrypted, or malformed"]
    assert list(decode_payload(ContentType.ALERT, b"\2").errors()) == ["byte 1: wanted 1 byte of description, got 0"]


@pytest.mark.parametrize(
    ("payload", "errors"),
    [
        (b"\1", []),
        (b"\2", ["byte 1: wanted a ChangeCipherSpec with the type 1"]),
        (b"\1\1", ["byte 1: 1 byte after the end of ChangeCipherSpec"]),
        (b"", ["byte 0: wanted 1 byte of type, got 0"]),
    ],
)
def test_a_change_cipher_spec_is_a_single_one(payload: bytes, errors: list[str]) -> None:
    tree = checked(decode_payload(ContentType.CHANGE_CIPHER_SPEC, payload), payload)
    assert list(tree.errors()) == errors


def test_a_heartbeat_that_claims_more_than_it_has_is_an_error() -> None:
    good = b"\1\0\4ping" + bytes(16)
    tree = checked(decode_payload(ContentType.HEARTBEAT, good), good)
    assert (tree.text, list(tree.errors())) == ("heartbeat_request", [])
    assert [(one.name, one.value) for one in tree.children[1:]] == [("payload", b"ping"), ("padding", bytes(16))]
    bleeding = decode_payload(ContentType.HEARTBEAT, b"\1\x40\0ping")
    assert list(bleeding.errors()) == ["byte 1: payload has 16384 bytes by its length, of which 4 are here"]


def test_a_hello_of_ssl_2_0_is_read() -> None:
    payload = SSL_2_0[2:]
    tree = checked(decode_payload(SSL_2_0_HELLO, payload), payload)
    assert (tree.name, tree.text, list(tree.errors())) == ("ClientHello of SSL 2.0", "TLS 1.0", [])
    suites = tree.child("cipher_specs")
    assert suites is not None
    assert [one.text for one in suites.children] == [
        "0x010080",
        "0x030080",
        "0x0700c0",
        "0x060040",
        "0x020080",
        "0x040080",
        "TLS_RSA_WITH_AES_128_CBC_SHA",
    ]
    assert tree.child("challenge").value == bytes(range(16))  # type: ignore[union-attr]


def test_every_alert_has_a_name() -> None:
    for alert in Alert:
        assert decode_payload(ContentType.ALERT, bytes((2, alert))).text == f"fatal {alert.name.lower()}"


@given(st.integers(0, 255), st.binary(max_size=100))
def test_any_payload_is_read_without_an_exception(kind: int, payload: bytes) -> None:
    checked(decode_payload(kind, payload), payload)
