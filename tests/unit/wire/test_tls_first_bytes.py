"""The first bytes of a connection, and the alerts that answer them."""

from __future__ import annotations

import pytest

from meshtls.wire.tls import INTERNAL_ERROR_ALERT, Alert, FirstBytes, alert_for, fatal_alert, first_bytes_of


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        (b"", FirstBytes.UNDECIDED),
        (b"\x16", FirstBytes.UNDECIDED),
        (b"\x16\x03", FirstBytes.TLS),
        (b"\x16\x03\x01", FirstBytes.TLS),
        (b"\x16\x03\x03\x02\x00\x01", FirstBytes.TLS),
        (b"\x16\x03\x05", FirstBytes.TLS),
        (b"\x16\x02", FirstBytes.PLAINTEXT),
        (b"\x15\x03\x01", FirstBytes.PLAINTEXT),
        (b"G", FirstBytes.PLAINTEXT),
        (b"\x80\x2e\x01", FirstBytes.PLAINTEXT),
        (b"\x00", FirstBytes.PLAINTEXT),
    ],
)
def test_first_bytes_show_what_the_peer_speaks(first: bytes, shown: FirstBytes) -> None:
    assert first_bytes_of(first) is shown


UNEXPECTED_MESSAGE, PROTOCOL_VERSION = b"\x15\x03\x03\0\2\2\x0a", b"\x15\x03\x03\0\2\2\x46"


@pytest.mark.parametrize(
    ("first", "alert"),
    [
        (b"\x17\x03\x03", UNEXPECTED_MESSAGE),
        (b"\x14\x03", UNEXPECTED_MESSAGE),
        (b"\x63\x03\x03", UNEXPECTED_MESSAGE),
        (b"\x80\x2e\x01", PROTOCOL_VERSION),
        (b"\x81\x03\x01", PROTOCOL_VERSION),
        (b"\x7f\x03\x01", UNEXPECTED_MESSAGE),
        (b"\x80\x03\x01", PROTOCOL_VERSION),
        (b"\x80\x2e\x02", b""),
        (b"\x80\x2e", b""),
        (b"\x17", b""),
        (b"\x17\x02\x03", b""),
        (b"GET", b""),
        (b"", b""),
    ],
)
def test_an_impossible_first_record_is_answered_with_an_alert_and_other_protocols_are_not(
    first: bytes, alert: bytes
) -> None:
    assert alert_for(first) == alert


@pytest.mark.parametrize(
    ("alert", "record"),
    [
        (Alert.UNEXPECTED_MESSAGE, UNEXPECTED_MESSAGE),
        (Alert.PROTOCOL_VERSION, PROTOCOL_VERSION),
        (Alert.INTERNAL_ERROR, INTERNAL_ERROR_ALERT),
    ],
)
def test_an_alert_is_one_record(alert: Alert, record: bytes) -> None:
    assert fatal_alert(alert) == record == b"\x15\x03\x03\0\2\2" + bytes((alert,))
