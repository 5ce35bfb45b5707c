"""Capture files that are compressed with gzip."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib

from meshtls.capture.files.packet import FileError
from meshtls.capture.files.reading import read_packets
from tests.support.packets import captured, pcap
from tests.unit.capture.files.blocks import everything
from tests.unit.capture.files.test_pcap import FIRST, SECOND_PACKET, Drip

PACKETS = captured(bytes(one) + b"-%d" % one for one in range(600))
PLAIN = pcap(PACKETS)


def test_a_compressed_file_is_read_as_the_plain_one() -> None:
    packets, reader = everything(gzip.compress(PLAIN))
    assert (packets, reader.format, reader.error) == (PACKETS, "pcap", None)


def test_members_that_follow_each_other_are_one_file() -> None:
    parts = [PLAIN[:10], PLAIN[10:5000], b"", PLAIN[5000:]]
    packets, reader = everything(b"".join(map(gzip.compress, parts)) + bytes(100))
    assert (packets, reader.error) == (PACKETS, None)


def test_a_compressed_pipe_may_give_one_byte_at_a_time() -> None:
    reader = read_packets(Drip(gzip.compress(pcap([FIRST, SECOND_PACKET])) * 1))  # type: ignore[arg-type]
    assert (list(reader), reader.error) == ([FIRST, SECOND_PACKET], None)


def test_a_file_that_ends_early_gives_the_packets_before() -> None:
    whole = gzip.compress(PLAIN)
    packets, reader = everything(whole[: len(whole) // 2])
    assert packets == PACKETS[: len(packets)]
    assert len(packets) > 200
    assert reader.error is not None
    assert f"the gzip data ends early, after {len(whole) // 2} compressed bytes" in reader.error.reason


def test_a_damaged_file_gives_the_packets_before_the_damage() -> None:
    sound = gzip.compress(PLAIN[:40_000])
    packets, reader = everything(sound + sound[:10] + b"\x07" + bytes(1000))  # a block of a type that there is not
    assert len(packets) > 200
    assert packets == PACKETS[: len(packets)]
    assert reader.error is not None
    assert reader.error.reason.startswith(f"the gzip data is damaged at compressed byte {len(sound) + 10};")


def test_a_wrong_checksum_is_told_after_all_packets() -> None:
    whole = bytearray(gzip.compress(PLAIN))
    whole[-5] ^= 1
    packets, reader = everything(bytes(whole))
    assert packets == PACKETS
    assert reader.error is not None
    assert reader.error.reason.startswith("the gzip data is damaged at compressed byte")


def test_bytes_after_the_last_member_are_an_error() -> None:
    whole = gzip.compress(PLAIN)
    packets, reader = everything(whole + b"more")
    assert packets == PACKETS
    assert reader.error == FileError(
        len(PLAIN),
        f"wanted another gzip member or the end after {len(whole)} compressed bytes; "
        "the file ends within a packet's header: wanted 16 bytes, got 0",
    )


def test_a_gzip_file_without_a_capture_inside_is_named() -> None:
    _, reader = everything(gzip.compress(gzip.compress(PLAIN)))
    assert reader.error == FileError(0, "wanted a pcap or pcapng file, got gzip in gzip; decompress it once")
    _, reader = everything(b"\x1f\x8b")
    assert reader.error == FileError(0, "the gzip data ends early, after 2 compressed bytes")


def test_memory_does_not_grow_with_what_the_data_expands_to() -> None:
    compressor = zlib.compressobj(9, wbits=31)
    bomb = [compressor.compress(PLAIN[:24] + b"\0\0\0\0\0\0\0\0\0\0\4\0\0\0\4\0" + bytes(1 << 18))]
    header = b"\0\0\0\0\0\0\0\0\0\0\4\0\0\0\4\0"
    bomb += [compressor.compress((header + bytes(1 << 18)) * 16) for _ in range(32)]
    stream = io.BytesIO(b"".join([*bomb, compressor.flush()]))
    assert len(stream.getvalue()) < 200_000

    tracemalloc.start()
    try:
        count = sum(1 for _ in read_packets(stream))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 1 + 16 * 32
    assert most < 4 << 20
