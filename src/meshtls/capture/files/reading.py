"""Recognises what a capture file is, and reads it. Pure: the stream is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from meshtls.capture.files.packet import FileError, Interface, Packet
from meshtls.capture.files.pcap import MAGICS, PcapReader
from meshtls.capture.files.pcapng import SECTION_HEADER, PcapngReader
from meshtls.capture.files.source import Source

__all__ = ["CaptureReader", "read_packets"]

_MAGIC = 4
_MODIFIED = "a pcap variant with other packet headers"
_CONVERTED = f"{_MODIFIED}; convert it with `editcap -F pcapng`"
#: What files that are none of ours begin with, and what they are.
_OTHERS = (
    (b"\xa1\xb2\xcd\x34", f"Kuznetzov's modified pcap, {_CONVERTED}"),
    (b"\x34\xcd\xb2\xa1", f"Kuznetzov's modified pcap, {_CONVERTED}"),
    (b"\xa1\xb2\x34\xcd", f"Mesquita's modified pcap, {_MODIFIED}"),
    (b"\xcd\x34\xb2\xa1", f"Mesquita's modified pcap, {_MODIFIED}"),
    (b"\xa1\x2b\x3c\x4d", f"Navtel's modified pcap, {_MODIFIED}"),
    (b"\x4d\x3c\x2b\xa1", f"Navtel's modified pcap, {_MODIFIED}"),
    (b"\x1c\x00\x01\xac", f"an Ixia hardware capture, {_CONVERTED}"),
    (b"\xac\x01\x00\x1c", f"an Ixia hardware capture, {_CONVERTED}"),
    (b"\x1c\x00\x01\xab", f"an Ixia software capture, {_CONVERTED}"),
    (b"\xab\x01\x00\x1c", f"an Ixia software capture, {_CONVERTED}"),
    (b"snoo", "a snoop file; convert it with `editcap -F pcapng`"),
    (b"GMBU", "a Network Monitor file; convert it with `editcap -F pcapng`"),
    (b"\x1f\x8b", "gzip in gzip; decompress it once"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it with `zstd -d`"),
    (b"\x04\x22\x4d\x18", "compressed with lz4; decompress it with `lz4 -d`"),
    (b"BZh", "compressed with bzip2; decompress it with `bunzip2`"),
    (b"\xfd7zX", "compressed with xz; decompress it with `xz -d`"),
    (b"PK\x03\x04", "a ZIP archive; extract the capture"),
)


class CaptureReader:
    """An iterator over the packets of a capture. Nothing that a file may contain makes it raise.

    - ``format``: "pcap", "pcapng", or "" if it is neither.
    - ``interfaces``: those seen so far, in the file's order.
    - ``secrets``: the TLS key logs that the file itself has (RFC 9850's format), as far as it was read. A caller may
      remove those that it has taken.
    - ``error``: where and why reading ended early; None as long as it has not.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._source = Source(stream)
        self._reader: PcapReader | PcapngReader | None = None
        self._error: FileError | None = None
        self._packets: Iterator[Packet] | None = None

    def __iter__(self) -> Iterator[Packet]:
        if self._packets is None:
            self._packets = self._open()
        return self._packets

    def __next__(self) -> Packet:
        return next(iter(self))

    @property
    def format(self) -> str:
        """What the file is."""
        return self._reader.format if self._reader is not None else ""

    @property
    def interfaces(self) -> list[Interface]:
        """Where its packets were captured."""
        return self._reader.interfaces if self._reader is not None else []

    @property
    def secrets(self) -> list[bytes]:
        """The key logs in it."""
        return self._reader.secrets if self._reader is not None else []

    @property
    def error(self) -> FileError | None:
        """Where it broke."""
        return self._error if self._reader is None else self._reader.error

    def _open(self) -> Iterator[Packet]:
        position = self._source.begin(_MAGIC)
        magic = position.buffer[:_MAGIC]
        if magic in MAGICS:
            self._reader = PcapReader(self._source, position)
        elif magic == SECTION_HEADER:
            self._reader = PcapngReader(self._source, position)
        else:
            self._error = FileError(0, _not_ours(magic, self._source.failure))
            return iter(())
        return self._reader.packets()


def _not_ours(magic: bytes, failure: str) -> str:
    if failure:
        return failure
    if not magic:
        return "wanted a pcap or pcapng file, got an empty one"
    other = next((words for start, words in _OTHERS if magic.startswith(start)), f"one that begins with {magic.hex()}")
    return f"wanted a pcap or pcapng file, got {other}"


def read_packets(stream: BinaryIO) -> CaptureReader:
    """The packets of a capture file, as they are read. The stream may be a pipe."""
    return CaptureReader(stream)
