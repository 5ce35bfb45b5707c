"""Hex as people and tools write it: the same bytes from each form, and for each mistake the whole message."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import RequestError
from meshtls.wire.hex_text import MAX_TEXT, parse_hex

DATA = bytes.fromhex("1100001900000009") + b"de ad |  be ef |x"

#: As these tools print DATA, whose text looks like hex, like a column's end and like a bar.
XXD = """\
00000000: 1100 0019 0000 0009 6465 2061 6420 7c20  ........de ad |\x20
00000010: 2062 6520 6566 207c 78                    be ef |x
"""
HEXDUMP = """\
00000000  11 00 00 19 00 00 00 09  64 65 20 61 64 20 7c 20  |........de ad | |
00000010  20 62 65 20 65 66 20 7c  78                       | be ef |x|
00000019
"""
TCPDUMP = """\
07:30:00.000001 IP 127.0.0.1.4000 > 127.0.0.1.4001: UDP, length 25
\t0x0000:  1100 0019 0000 0009 6465 2061 6420 7c20  ........de.ad.|.
\t0x0010:  2062 6520 6566 207c 78                   .be.ef.|x
"""
WIRESHARK = """\
0000   11 00 00 19 00 00 00 09 64 65 20 61 64 20 7c 20   ........de ad |\x20
0010   20 62 65 20 65 66 20 7c 78                         be ef |x
"""


@pytest.mark.parametrize(
    "text",
    [
        DATA.hex(),
        DATA.hex().upper(),
        DATA.hex(" "),
        DATA.hex(" ", -4) + "\n",
        DATA.hex(":"),
        DATA.hex(", "[0]),
        "\n".join(DATA[at : at + 7].hex(":") + ":" for at in range(0, len(DATA), 7)),
        f"0x{DATA.hex()}",
        ", ".join(f"0x{byte:02X}" for byte in DATA),
        "".join(f"\\x{byte:02x}" for byte in DATA),
        f"\r\n\t{DATA[:5].hex()}\r\n\r\n{DATA[5:].hex(' ')}\r\n",
        XXD,
        XXD.replace("\n", "\r\n"),
        HEXDUMP,
        TCPDUMP,
        TCPDUMP.replace("  ........de.ad.|.", "").replace("                   .be.ef.|x", ""),
        WIRESHARK,
    ],
)
def test_each_form_has_the_same_bytes(text: str) -> None:
    assert parse_hex(text) == DATA


@pytest.mark.parametrize(
    "command", [["xxd"], ["xxd", "-g1", "-c7"], ["xxd", "-p"], ["hexdump", "-Cv"], ["hexdump", "-C"]]
)
def test_hex_dumps_of_this_machines_tools_are_read(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for data in (b"", b"\0", DATA, DATA[:16], bytes(range(256))):
        dump = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode("latin-1")
        assert parse_hex(dump) == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("110", "hex, line 1: wanted pairs of hex digits, got '110'"),
        ("11 0 0", "hex, line 1: wanted pairs of hex digits, got '0'"),
        ("11\n00 gg", "hex, line 2: wanted pairs of hex digits, got 'gg'"),
        ("11 0x0x00", "hex, line 1: wanted pairs of hex digits, got '0x0x00'"),
        ("११", "hex, line 1: wanted pairs of hex digits, got '११'"),
        ("packet.bin", "hex, line 1: wanted pairs of hex digits, got 'packet.bin'"),
        (
            "00000010: 1100",
            "hex, line 1: wanted the offset 0x0000, got 0x0010; "
            "give one packet, from its beginning and with every line (hexdump -v)",
        ),
        (
            TCPDUMP + TCPDUMP,
            "hex, line 5: wanted the offset 0x0019, got 0x0000; "
            "give one packet, from its beginning and with every line (hexdump -v)",
        ),
        (
            "00000000  00 00\n*\n00000020  11 00\n",
            "hex, line 3: wanted the offset 0x0002, got 0x0020; "
            "give one packet, from its beginning and with every line (hexdump -v)",
        ),
        ("0000: 110g", "hex, line 1: wanted pairs of hex digits, got '110g'"),
        ("0" * (MAX_TEXT + 2), f"hex: wanted at most {MAX_TEXT} characters, got more"),
    ],
)
def test_each_mistake_has_its_message(text: str, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse_hex(text)
    assert str(raised.value) == message


def test_no_text_is_no_bytes_and_the_longest_is_read() -> None:
    assert parse_hex("") == parse_hex(" \n\n") == b""
    assert len(parse_hex("0" * MAX_TEXT)) == MAX_TEXT // 2


def test_zeros_are_an_offset_only_before_two_spaces() -> None:
    assert parse_hex("0000 0011") == parse_hex("0000\n0011") == b"\0\0\0\x11"
    assert parse_hex("0000  0011") == b"\0\x11"


@given(st.binary(max_size=60), st.sampled_from([" ", ":", ",", "\n", " : "]), st.integers(1, 5))
def test_bytes_in_hex_are_the_bytes(data: bytes, between: str, group: int) -> None:
    assert parse_hex(between.join(data[at : at + group].hex() for at in range(0, len(data), group))) == data
