"""pcapng files: blocks of every kind, several sections and interfaces, clocks, secrets; and where a file breaks."""

from __future__ import annotations

import struct

import pytest

from meshtls.capture.files.packet import Interface, Packet
from tests.unit.capture.files.blocks import Blocks, everything

SECOND = 1_000_000_000
LE, BE = Blocks(), Blocks(">")
TICKS = 1_700_000_000_123_456


@pytest.mark.parametrize("make", [LE, BE])
def test_each_kind_of_packet_block_is_read(make: Blocks) -> None:
    data = (
        make.section()
        + make.interface(1, 262144, (2, b"eth0"))
        + make.enhanced(b"enhanced", TICKS)
        + make.obsolete(b"old", TICKS + 1)
        + make.simple(b"simple!")
        + make.enhanced(b"again", TICKS + 2, 0, (1, b"a comment"), original=99)
    )
    packets, reader = everything(data)
    assert packets == [
        Packet(1, TICKS * 1000, 0, 1, b"enhanced", 8),
        Packet(2, (TICKS + 1) * 1000, 0, 1, b"old", 3),
        Packet(3, 0, 0, 1, b"simple!", 7),
        Packet(4, (TICKS + 2) * 1000, 0, 1, b"again", 99),
    ]
    assert (reader.format, reader.error) == ("pcapng", None)
    assert reader.interfaces == [Interface(1, "eth0", 262144)]


@pytest.mark.parametrize(
    ("resolution", "ticks", "time_ns"),
    [
        (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (0, 1_700_000_000, 1_700_000_000 * SECOND),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (12, 1_700_000_000_123_456_789, 1_700_000_000_123_456),
        (0x80 | 10, 1_700_000_000 * 1024 + 512, 1_700_000_000 * SECOND + 500_000_000),
        (0x80 | 32, (1_700_000_000 << 32) + (1 << 31), 1_700_000_000 * SECOND + 500_000_000),
        (127, 2**64 - 1, 0),
        (0xFF, 2**64 - 1, 0),
        (0, 2**64 - 1, 253_402_300_799 * SECOND),
    ],
)
def test_timestamps_have_the_resolution_of_their_interface(resolution: int, ticks: int, time_ns: int) -> None:
    blocks = LE.enhanced(b"one", ticks) + LE.obsolete(b"two", ticks)
    packets, _ = everything(LE.section() + LE.interface(1, 0, (9, bytes([resolution]))) + blocks)
    assert [packet.time_ns for packet in packets] == [time_ns, time_ns]


def test_the_offset_of_an_interface_is_added_to_its_timestamps() -> None:
    offset = (14, struct.pack("<q", -3600))
    packets, _ = everything(LE.section() + LE.interface(1, 0, offset) + LE.enhanced(b"one", TICKS))
    assert packets[0].time_ns == TICKS * 1000 - 3600 * SECOND


def test_packets_name_the_interface_of_their_own_section() -> None:
    data = (
        LE.section()
        + LE.interface(1, 0, (2, b"eth0"))
        + LE.interface(113, 0, (2, b"any"), (9, b"\t"))
        + LE.enhanced(b"any", 5, 1)
        + BE.section()
        + BE.interface(101, 0, (2, b"tun0"))
        + BE.enhanced(b"tun", 5, 0)
    )
    packets, reader = everything(data)
    assert packets == [Packet(1, 5, 1, 113, b"any", 3), Packet(2, 5000, 2, 101, b"tun", 3)]
    assert [interface.name for interface in reader.interfaces] == ["eth0", "any", "tun0"]


def test_a_simple_packet_has_the_snapshot_length_of_the_first_interface() -> None:
    data = LE.section() + LE.interface(1, 4) + LE.interface(1, 100) + LE.simple(b"cut!", 1500)
    packets, _ = everything(data)
    assert packets == [Packet(1, 0, 0, 1, b"cut!", 1500)]


def test_tls_secrets_are_kept_and_others_are_not() -> None:
    data = LE.section() + LE.secrets(b"CLIENT_RANDOM a b\n") + LE.secrets(b"x", 0x53534B4C) + LE.secrets(b"more\n")
    _, reader = everything(data)
    assert (reader.secrets, reader.error) == ([b"CLIENT_RANDOM a b\n", b"more\n"], None)


def test_the_statistics_of_an_interface_are_kept() -> None:
    counts = ((4, struct.pack("<Q", 1000)), (5, struct.pack("<Q", 7)), (6, struct.pack("<Q", 1)))
    data = LE.section() + LE.interface() + LE.block(5, LE.pack("III", 0, 0, 0), counts)
    _, reader = everything(data)
    assert reader.interfaces == [Interface(1, received=1000, dropped=7)]


def test_blocks_that_are_not_known_are_skipped_however_large() -> None:
    names = LE.block(4, LE.pack("HH", 1, 8) + b"\x7f\0\0\1web\0" + bytes(4))
    large = LE.block(0xBAD, bytes(20_000_000))
    data = LE.section() + names + large + LE.interface() + LE.block(0x80000001, b"x") + LE.enhanced(b"one")
    packets, reader = everything(data)
    assert ([packet.data for packet in packets], reader.error) == ([b"one"], None)


GOOD = LE.section() + LE.interface() + LE.enhanced(b"good")
AT = len(GOOD)


@pytest.mark.parametrize(
    ("bad", "offset", "reason"),
    [
        (b"\6\0\0", AT, "the file ends within a block's header: wanted 12 bytes, got 3"),
        (LE.enhanced(b"cut off")[:-5], AT, "the file ends within an Enhanced Packet Block: wanted 40 bytes, got 35"),
        (LE.pack("III", 6, 8, 8), AT, "wanted a block's length, a multiple of 4 from 12 on, got 8"),
        (LE.pack("III", 6, 33, 33) + bytes(99), AT, "wanted a block's length, a multiple of 4 from 12 on, got 33"),
        (LE.pack("III", 6, 1 << 28, 0), AT, "wanted at most 16777216 bytes in an Enhanced Packet Block, got 268435456"),
        (
            LE.enhanced(b"trailer")[:-4] + LE.pack("I", 44),
            AT,
            "Enhanced Packet Block: wanted its length 40 again at its end, got 44",
        ),
        (
            LE.block(0xBAD, bytes(8))[:-4] + bytes(4),
            AT + 16,
            "block of type 0xbad: wanted its length 20 again at its end, got 0",
        ),
        (
            LE.block(0xBAD, bytes(64))[:40],
            AT + 40,
            "the file ends within a block of type 0xbad of 76 bytes: wanted 4 bytes, got 0",
        ),
        (
            LE.enhanced(b"one", 0, 1),
            AT,
            "Enhanced Packet Block: wanted one of 1 interfaces of the section, got 1",
        ),
        (
            LE.block(6, LE.pack("5I", 0, 0, 0, 5, 5) + b"four"),
            AT,
            "Enhanced Packet Block: wanted a packet of at most 4 bytes, got 5",
        ),
        (
            LE.enhanced(bytes(262145)),
            AT,
            "Enhanced Packet Block: wanted a packet of at most 262144 bytes, got 262145",
        ),
        (LE.block(6, LE.pack("I", 0)), AT, "Enhanced Packet Block: unpack_from requires a buffer of at least 20 bytes"),
        (
            LE.section() + LE.simple(b"one"),
            AT + 28,
            "Simple Packet Block: wanted one of 0 interfaces of the section, got 0",
        ),
        (LE.section(2), AT, "Section Header Block: wanted version 1, got 2.0"),
        (LE.section()[:8] + b"oops" + LE.section()[12:], AT, "wanted a byte-order magic, got 6f6f7073"),
        (
            LE.block(1, LE.pack("HHI", 1, 0, 0) + LE.pack("HH", 2, 900) + b"name"),
            AT,
            "Interface Description Block: wanted at most 4 bytes in option 2, got 900",
        ),
        (
            LE.block(10, LE.pack("II", 0x544C534B, 9) + b"too few!"),
            AT,
            "Decryption Secrets Block: wanted at most 8 bytes of secrets, got 9",
        ),
    ],
)
def test_a_broken_file_gives_what_it_holds_and_says_where_it_breaks(bad: bytes, offset: int, reason: str) -> None:
    packets, reader = everything(GOOD + bad)
    assert [packet.data for packet in packets] == [b"good"]
    assert reader.error is not None
    assert reader.error.offset == offset
    assert reader.error.reason.startswith(reason)


def test_secrets_are_bounded_by_what_is_held() -> None:
    block = LE.secrets(bytes(15 << 20))
    _, reader = everything(LE.section() + block * 5)
    assert len(reader.secrets) == 4
    assert reader.error is not None
    assert "wanted at most 67108864 bytes of secrets in all" in reader.error.reason


def test_interfaces_are_bounded() -> None:
    _, reader = everything(LE.section() + LE.interface() * 65_537)
    assert len(reader.interfaces) == 65_536
    assert reader.error is not None
    assert reader.error.reason == "Interface Description Block: wanted at most 65536 interfaces"
