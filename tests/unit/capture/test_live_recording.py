"""What is recorded of a live capture: packets after their secrets, whole lines of a key log only, VLAN tags."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from meshtls.capture.files.packet import MAX_PACKET
from meshtls.capture.files.reading import read_packets
from meshtls.capture.links import ETHERNET
from meshtls.capture.live.blocks import Captured, packets_of
from meshtls.capture.live.growing_keylog import GrowingKeyLog
from meshtls.capture.live.kernel_filter import MOST_PORTS, assembled, tcp_filter
from meshtls.capture.live.recording import HELD_BYTES, HELD_NS, Limits, Recording
from meshtls.errors import ConfigError

LINE = b"CLIENT_TRAFFIC_SECRET_0 " + b"ab" * 32 + b" " + b"cd" * 32 + b"\n"
OTHER = LINE.replace(b"ab", b"ef")
#: Bytes that are read of a key log at once.
PIECE = 1 << 16
NOW = 1_700_000_000_000_000_000
FRAME = bytes(12) + b"\x08\x00" + b"payload"


def block(*, status: int = 0, tag: int = 0, tag_type: int = 0) -> memoryview:
    """A block with one packet, as the kernel writes it."""
    packet = struct.pack("=IIIIIIHHIIHH8x", 0, 1, 2, len(FRAME), len(FRAME) + 5, status, 48, 62, 0, tag, tag_type, 0)
    return memoryview(struct.pack("=IIIIIIQIIII", 1, 0, 1, 1, 48, 0, 0, 0, 0, 0, 0) + packet + FRAME)


def test_a_packet_of_a_block_has_its_time_its_bytes_and_its_length() -> None:
    assert list(packets_of(block(), ETHERNET)) == [Captured(1_000_000_002, FRAME, len(FRAME) + 5)]


@pytest.mark.parametrize(
    ("status", "tag_type", "written"), [(0x10, 0, b"\x81\x00\x00\x07"), (0x50, 0x88A8, b"\x88\xa8\x00\x07")]
)
def test_a_vlan_tag_that_the_kernel_took_out_is_where_it_was(status: int, tag_type: int, written: bytes) -> None:
    [found] = packets_of(block(status=status, tag=7, tag_type=tag_type), ETHERNET)
    assert found.data == FRAME[:12] + written + FRAME[12:]
    assert found.original_length == len(FRAME) + 5 + 4


def recording(*, hold: bool, size: int = 1 << 30) -> tuple[io.BytesIO, Recording]:
    stream = io.BytesIO()
    return stream, Recording(stream, "lo", ETHERNET, Limits(None, size), hold=hold)


def written(stream: io.BytesIO) -> int:
    stream.seek(0)
    number = len(list(read_packets(stream)))
    stream.seek(0, os.SEEK_END)
    return number


def test_a_packet_waits_for_its_secrets_where_there_is_a_key_log() -> None:
    stream, one = recording(hold=True)
    one.add([Captured(NOW, FRAME, len(FRAME))], NOW + HELD_NS - 1)
    assert written(stream) == 0
    one.add_secrets(LINE)
    one.add([], NOW + HELD_NS)
    assert written(stream) == 1
    data = stream.getvalue()
    assert data.index(LINE) < data.index(FRAME)


def test_a_packet_is_written_at_once_where_there_is_none() -> None:
    stream, one = recording(hold=False)
    one.add([Captured(NOW, FRAME, len(FRAME))], NOW)
    assert written(stream) == 1


def test_packets_that_wait_have_bounded_memory() -> None:
    stream, one = recording(hold=True)
    data = bytes(MAX_PACKET)
    number = HELD_BYTES // MAX_PACKET + 3
    one.add((Captured(NOW, data, len(data)) for _ in range(number)), NOW)
    assert number - HELD_BYTES // MAX_PACKET <= written(stream) < number


@pytest.mark.parametrize("secrets", [LINE * 200, b""])
def test_secrets_and_packets_both_count_for_the_size(secrets: bytes) -> None:
    stream, one = recording(hold=False, size=8192)
    one.add_secrets(secrets)
    one.add([Captured(NOW, bytes(4096), 4096)] * (0 if secrets else 3), NOW)
    one.finish(NOW, received=0, dropped=0)
    assert one.full == "the file has its size"
    assert len(stream.getvalue()) <= 8192


def test_a_key_log_is_followed_from_before_it_exists_and_lines_come_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    log = GrowingKeyLog(path)
    assert log.more() == b""
    path.write_bytes(LINE[:40])
    assert log.more() == b""
    with path.open("ab") as file:
        file.write(LINE[40:])
    assert (log.more(), log.more()) == (LINE, b"")
    log.close()


def test_a_look_at_a_key_log_that_has_not_grown_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    path.write_bytes(LINE + LINE[:40])
    log = GrowingKeyLog(path)
    assert log.more() == LINE
    memory = [_memory_of(log.more)]
    with path.open("ab") as file:
        file.write(LINE[40:])
    memory.append(_memory_of(log.more))
    assert memory[0] < PIECE <= memory[1]
    log.close()


def _memory_of(look: Callable[[], bytes]) -> int:
    """The most bytes that are taken at a time."""
    tracemalloc.start()
    try:
        look()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_lines_that_are_no_secrets_do_not_leave_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    path.write_bytes(b"# a comment\npassword: x\n" + b"z" * 70_000 + b"\n" + LINE)
    log = GrowingKeyLog(path)
    assert (log.more(), log.more()) == (b"", LINE)
    log.close()


def test_a_key_log_that_is_replaced_or_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    path, new = tmp_path / "keys.log", tmp_path / "new.log"
    path.write_bytes(LINE + LINE)
    log = GrowingKeyLog(path)
    assert log.more() == LINE + LINE
    path.write_bytes(OTHER)
    assert log.more() == OTHER
    new.write_bytes(LINE)
    new.rename(path)
    assert log.more() == LINE
    log.close()


def test_a_key_log_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        GrowingKeyLog(tmp_path)
    assert str(refused.value) == f"{tmp_path}: wanted a key log to read: it is not a regular file"


def test_a_filter_reaches_its_end_with_the_most_ports_and_refuses_one_more() -> None:
    program = tcp_filter(range(1, MOST_PORTS + 1), keep=MAX_PACKET)
    assert len(assembled(program)) == 8 * len(program)
    for at, (_, if_true, if_false, _) in enumerate(program):
        assert at + max(if_true, if_false) < len(program)
    with pytest.raises(ValueError, match="wanted at most 32 ports, got 33"):
        tcp_filter(range(MOST_PORTS + 1), keep=MAX_PACKET)
