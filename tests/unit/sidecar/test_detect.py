"""What the first bytes of a connection say."""

from __future__ import annotations

import pytest

from meshtls.sidecar.detect import Wire, wire_of


@pytest.mark.parametrize(
    ("first", "wire"),
    [
        (b"", Wire.UNDECIDED),
        (b"\x16", Wire.UNDECIDED),
        (b"\x16\x03", Wire.UNDECIDED),
        (b"\x16\x03\x01", Wire.TLS),
        (b"\x16\x03\x03\x02\x00\x01", Wire.TLS),
        (b"\x16\x03\x05", Wire.PLAINTEXT),
        (b"\x16\x02", Wire.PLAINTEXT),
        (b"\x15\x03\x01", Wire.PLAINTEXT),
        (b"G", Wire.PLAINTEXT),
        (b"\x80\x2e\x01", Wire.PLAINTEXT),
        (b"\x00", Wire.PLAINTEXT),
    ],
)
def test_first_bytes_are_told_apart(first: bytes, wire: Wire) -> None:
    assert wire_of(first) is wire
