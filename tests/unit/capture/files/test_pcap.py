"""pcap files are read in both byte orders and units, and a broken one gives what it holds."""

from __future__ import annotations

import io
import struct

import pytest

from meshtls.capture.files.packet import FileError, Interface, Packet
from meshtls.capture.files.reading import read_packets
from tests.support.packets import pcap
from tests.unit.capture.files.blocks import everything

SECOND = 1_000_000_000
FIRST = Packet(1, 1_700_000_000 * SECOND + 123_456_000, 0, 1, b"first packet", 12)
SECOND_PACKET = Packet(2, 1_700_000_001 * SECOND + 999_999_000, 0, 1, b"cut", 1500)
FILE = pcap([FIRST, SECOND_PACKET])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [True, False])
def test_both_byte_orders_and_both_units_are_read(order: str, nano: bool) -> None:
    packets, reader = everything(pcap([FIRST, SECOND_PACKET], order=order, nano=nano))
    assert packets == [FIRST, SECOND_PACKET]
    assert (reader.format, reader.error, reader.secrets) == ("pcap", None, [])
    assert reader.interfaces == [Interface(1, snapshot_length=262144)]


def test_nanoseconds_are_kept() -> None:
    [packet], _ = everything(pcap([FIRST._replace(time_ns=1_700_000_000_123_456_789)]))
    assert packet.time_ns == 1_700_000_000_123_456_789


def test_the_length_of_a_frame_check_sequence_is_no_part_of_the_link_type() -> None:
    packets, _ = everything(pcap([FIRST], link_type=0x5400_0000 | 276))
    assert packets[0].link_type == 276


def test_a_file_without_packets_is_no_error() -> None:
    packets, reader = everything(pcap([]))
    assert (packets, reader.error) == ([], None)


@pytest.mark.parametrize(
    ("data", "whole", "error"),
    [
        (b"", 0, FileError(0, "wanted a pcap or pcapng file, got an empty one")),
        (FILE[:3], 0, FileError(0, "wanted a pcap or pcapng file, got one that begins with 4d3cb2")),
        (FILE[:20], 0, FileError(0, "the file ends within the file's header: wanted 24 bytes, got 20")),
        (FILE[:30], 0, FileError(24, "the file ends within a packet's header: wanted 16 bytes, got 6")),
        (FILE[:45], 0, FileError(24, "the file ends within packet 1: wanted 28 bytes, got 21")),
        (FILE[:53], 1, FileError(52, "the file ends within a packet's header: wanted 16 bytes, got 1")),
        (FILE[:-1], 1, FileError(52, "the file ends within packet 2: wanted 19 bytes, got 18")),
        (
            FILE[:4] + b"\3" + FILE[5:],
            0,
            FileError(0, "wanted pcap version 2, got 3.4"),
        ),
        (
            FILE + struct.pack("<IIII", 0, 0, 262145, 0) + bytes(300_000),
            2,
            FileError(71, "packet 3 has 262145 bytes, more than 262144: the file is damaged"),
        ),
    ],
)
def test_a_broken_file_gives_what_it_holds_and_says_where_it_breaks(data: bytes, whole: int, error: FileError) -> None:
    packets, reader = everything(data)
    assert packets == [FIRST, SECOND_PACKET][:whole]
    assert reader.error == error


def test_an_error_is_in_words_for_people() -> None:
    assert FileError(52, "the file ends").words == "at byte 52: the file ends"


@pytest.mark.parametrize(
    ("magic", "words"),
    [
        ("a1b2cd34", "Kuznetzov's modified pcap, a pcap variant with other packet headers; convert it with `editcap"),
        ("34cdb2a1", "Kuznetzov's modified pcap"),
        ("a1b234cd", "Mesquita's modified pcap, a pcap variant with other packet headers"),
        ("a12b3c4d", "Navtel's modified pcap"),
        ("1c0001ac", "an Ixia hardware capture"),
        ("736e6f6f70", "a snoop file"),
        ("28b52ffd", "compressed with zstd; decompress it with `zstd -d`"),
        ("504b0304", "a ZIP archive"),
        ("7f454c46", "one that begins with 7f454c46"),
    ],
)
def test_other_formats_are_named(magic: str, words: str) -> None:
    packets, reader = everything(bytes.fromhex(magic) + bytes(100))
    assert packets == []
    assert reader.error is not None
    assert reader.error.offset == 0
    assert reader.error.reason.startswith(f"wanted a pcap or pcapng file, got {words}")


class Drip(io.RawIOBase):
    """Gives one byte at a time, as a slow pipe may, and then fails if it is to."""

    def __init__(self, data: bytes, *, fails: bool = False) -> None:
        self.data, self.at, self.fails = data, 0, fails

    def read(self, size: int = -1) -> bytes:
        """One byte."""
        if self.at == len(self.data) and self.fails:
            raise OSError(5, "Input/output error")
        self.at += 1
        return self.data[self.at - 1 : self.at]


def test_a_pipe_may_give_one_byte_at_a_time() -> None:
    reader = read_packets(Drip(FILE))  # type: ignore[arg-type]  # what is used of a stream is there
    assert (list(reader), reader.error) == ([FIRST, SECOND_PACKET], None)


def test_a_packet_comes_before_the_pipe_has_more() -> None:
    stream = Drip(FILE[:52], fails=True)
    reader = read_packets(stream)  # type: ignore[arg-type]
    assert next(reader) == FIRST
    assert stream.at == 52
    assert list(reader) == []
    assert reader.error == FileError(
        52,
        "reading failed: Input/output error; the file ends within a packet's header: wanted 16 bytes, got 0",
    )


def test_packets_that_span_what_is_read_at_once_are_whole() -> None:
    packets = [
        FIRST._replace(number=n, data=bytes([n % 251]) * (n * 37 % 3000), original_length=0) for n in range(1, 900)
    ]
    packets = [one._replace(original_length=len(one.data)) for one in packets]
    found, reader = everything(pcap(packets))
    assert (found, reader.error) == (packets, None)
