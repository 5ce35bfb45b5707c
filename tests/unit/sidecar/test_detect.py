"""What the first bytes of a connection say."""

from __future__ import annotations

import pytest

from meshtls.sidecar.detect import Wire, alert_for, wire_of


@pytest.mark.parametrize(
    ("first", "wire"),
    [
        (b"", Wire.UNDECIDED),
        (b"\x16", Wire.UNDECIDED),
        (b"\x16\x03", Wire.TLS),
        (b"\x16\x03\x01", Wire.TLS),
        (b"\x16\x03\x03\x02\x00\x01", Wire.TLS),
        (b"\x16\x03\x05", Wire.TLS),
        (b"\x16\x02", Wire.PLAINTEXT),
        (b"\x15\x03\x01", Wire.PLAINTEXT),
        (b"G", Wire.PLAINTEXT),
        (b"\x80\x2e\x01", Wire.PLAINTEXT),
        (b"\x00", Wire.PLAINTEXT),
    ],
)
def test_first_bytes_are_told_apart(first: bytes, wire: Wire) -> None:
    assert wire_of(first) is wire


UNEXPECTED_MESSAGE, PROTOCOL_VERSION = b"\x15\x03\x03\0\2\2\x0a", b"\x15\x03\x03\0\2\2\x46"


@pytest.mark.parametrize(
    ("first", "alert"),
    [
        (b"\x17\x03\x03", UNEXPECTED_MESSAGE),
        (b"\x14\x03", UNEXPECTED_MESSAGE),
        (b"\x63\x03\x03", UNEXPECTED_MESSAGE),
        (b"\x80\x2e\x01", PROTOCOL_VERSION),
        (b"\x81\x03\x01", PROTOCOL_VERSION),
        (b"\x80\x2e\x02", b""),
        (b"\x80\x2e", b""),
        (b"\x17", b""),
        (b"\x17\x02\x03", b""),
        (b"GET", b""),
        (b"", b""),
    ],
)
def test_a_record_that_can_t_be_first_has_an_alert_and_other_protocols_have_none(first: bytes, alert: bytes) -> None:
    assert alert_for(first) == alert
