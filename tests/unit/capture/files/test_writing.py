"""Capture files that are written are read again, by us and by Wireshark's programs, and are the owner's alone."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from meshtls.capture.files.opening import opened_to_read, opened_to_write
from meshtls.capture.files.packet import Interface, Packet
from meshtls.capture.files.writing import PcapngWriter, PcapWriter
from meshtls.errors import ConfigError
from tests.support.agent import short_directory
from tests.support.packets import EPOCH, Talk, pcap
from tests.support.require import require
from tests.unit.capture.files.blocks import everything

FRAMES = Talk().handshake()


def written_pcapng(stream: io.BufferedIOBase | io.BytesIO) -> None:
    writer = PcapngWriter(stream, comment="made by a test")  # type: ignore[arg-type]
    writer.secrets(b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48 + b"\n")
    first, second = writer.interface(1, "eth0"), writer.interface(101, "tun0", 96, description="a tunnel")
    writer.packet(first, EPOCH + 1, FRAMES[0], comment="the first")
    writer.packet(second, EPOCH + 2, FRAMES[1][14:], 1500)
    writer.statistics(first, EPOCH + 3, received=17, dropped=4)


def test_a_pcapng_file_has_what_was_written() -> None:
    stream = io.BytesIO()
    written_pcapng(stream)
    packets, reader = everything(stream.getvalue())
    assert packets == [
        Packet(1, EPOCH + 1, 0, 1, FRAMES[0], 54),
        Packet(2, EPOCH + 2, 1, 101, FRAMES[1][14:], 1500),
    ]
    assert reader.error is None
    assert reader.interfaces == [
        Interface(1, "eth0", 262144, 17, 4),
        Interface(101, "tun0", 96, description="a tunnel"),
    ]
    assert reader.secrets == [b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48 + b"\n"]


def test_a_pcap_file_has_what_was_written() -> None:
    stream = io.BytesIO()
    writer = PcapWriter(stream, 276, 96)
    writer.packet(EPOCH + 7, b"whole")
    writer.packet(EPOCH + 8, b"cut", 1500)
    packets, reader = everything(stream.getvalue())
    assert packets == [Packet(1, EPOCH + 7, 0, 276, b"whole", 5), Packet(2, EPOCH + 8, 0, 276, b"cut", 1500)]
    assert reader.interfaces == [Interface(276, snapshot_length=96)]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_wireshark_reads_what_was_written(tmp_path: Path) -> None:
    require("tshark", shutil.which("capinfos") is not None and shutil.which("tshark") is not None, "no tshark")
    file = tmp_path / "made.pcapng"
    with opened_to_write(file) as stream:
        written_pcapng(stream)  # type: ignore[arg-type]
    about = run("capinfos", str(file))
    assert "Capture comment:     made by a test" in about
    assert "Number of interfaces in file: 2" in about
    assert "Name = tun0" in about
    assert "Description = a tunnel" in about
    assert "Number of decryption secrets in file: 1" in about
    fields = ("frame.number", "frame.time_epoch", "frame.len", "frame.comment", "ip.src")
    lines = run("tshark", "-r", str(file), "-T", "fields", *(part for field in fields for part in ("-e", field)))
    assert lines.split("\n")[:2] == [
        "1\t1700000000.000000001\t54\tthe first\t10.0.0.1",
        "2\t1700000000.000000002\t1500\t\t10.0.0.2",
    ]


def test_files_of_wireshark_are_read(tmp_path: Path) -> None:
    require("tshark", shutil.which("editcap") is not None, "no editcap")
    plain, keys = tmp_path / "plain.pcap", tmp_path / "keys.log"
    plain.write_bytes(pcap([Packet(number, EPOCH + number, 0, 1, frame, 54) for number, frame in enumerate(FRAMES, 1)]))
    keys.write_text("CLIENT_RANDOM " + "ab" * 32 + " " + "cd" * 48 + "\n")
    expected, _ = everything(plain.read_bytes())
    for name in ("pcapng", "pcap", "nsecpcap"):
        made = tmp_path / f"made.{name}"
        options = ("--inject-secrets", f"tls,{keys}") if name == "pcapng" else ()
        run("editcap", *options, "-F", name, str(plain), str(made))
        packets, reader = everything(made.read_bytes())
        unit = 1000 if name == "pcap" else 1
        assert packets == [one._replace(time_ns=one.time_ns // unit * unit) for one in expected]
        assert reader.error is None
        assert reader.secrets == ([keys.read_bytes()] if options else [])


def test_a_file_is_the_owners_alone_from_its_first_byte_also_if_one_with_its_name_was_not(tmp_path: Path) -> None:
    file = tmp_path / "made.pcap"
    file.write_text("\n\r\r\nold, and longer than what is written", newline="")
    file.chmod(0o644)
    with open(file, newline="") as reading_the_old, opened_to_write(file) as stream:
        assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == 0o600
        stream.write(b"new")
        stream.flush()
        assert reading_the_old.read() == "\n\r\r\nold, and longer than what is written"
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("begin", [b"", b"\n\r\r\n", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x1f\x8b\x08"])
def test_an_older_capture_and_an_empty_file_are_replaced(tmp_path: Path, begin: bytes) -> None:
    file = tmp_path / "made.pcap"
    file.write_bytes(begin)
    opened_to_write(file).close()
    assert file.read_bytes() == b""


def made(kind: str, path: Path) -> None:
    """What has the name that a capture is to have."""
    if kind == "a symbolic link":
        path.symlink_to(path.parent / "target")
    elif kind == "a directory":
        path.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.fspath(path))
    else:
        path.write_text("CLIENT_RANDOM precious")


@pytest.mark.parametrize("kind", ["another file", "a symbolic link", "a directory", "a named pipe", "a socket"])
def test_whatever_else_has_the_name_of_a_capture_is_left_as_it_is(kind: str) -> None:
    with short_directory() as directory:
        (directory / "target").write_text("precious")
        path = directory / "made.pcap"
        made(kind, path)
        before = path.lstat()
        with pytest.raises(ConfigError) as refused:
            opened_to_write(path)
        assert str(refused.value) == (
            f"{path}: wanted a new file, or an older capture to replace, got {kind}, which is left as it is: choose"
            " another name"
        )
        assert (path.lstat().st_ino, path.lstat().st_size) == (before.st_ino, before.st_size)
        assert (directory / "target").read_text() == "precious"


def test_a_directory_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted a file to write packets to: No such file or directory"):
        opened_to_write(tmp_path / "missing" / "made.pcap")
    with pytest.raises(ConfigError, match="wanted a capture file to read: No such file or directory"):
        opened_to_read(str(tmp_path / "missing")).__enter__()
    with pytest.raises(ConfigError, match="wanted a capture file to read: embedded null byte"):
        opened_to_read("a\0b").__enter__()


def test_a_capture_is_read_from_standard_input() -> None:
    script = (
        "from meshtls.capture.files.opening import opened_to_read\n"
        "from meshtls.capture.files.reading import read_packets\n"
        "with opened_to_read('-') as stream: print([packet.data for packet in read_packets(stream)])"
    )
    data = pcap([Packet(1, EPOCH, 0, 1, b"one", 3), Packet(2, EPOCH, 0, 1, b"two", 3)])
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"[b'one', b'two']\n"
