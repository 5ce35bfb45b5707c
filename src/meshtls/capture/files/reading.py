"""Recognises what a capture file is, and reads it. Pure: the stream is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from meshtls.capture.files.packet import FileError, Interface, Packet, Position
from meshtls.capture.files.pcap import MAGICS, PcapReader
from meshtls.capture.files.source import Source

__all__ = ["CaptureReader", "read_packets"]


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
        self._reader: PcapReader | None = None
        self._error: FileError | None = None
        self._packets = self._open()

    def __iter__(self) -> Iterator[Packet]:
        return self._packets

    def __next__(self) -> Packet:
        return next(self._packets)

    @property
    def format(self) -> str:
        return self._reader.format if self._reader is not None else ""

    @property
    def interfaces(self) -> list[Interface]:
        return self._reader.interfaces if self._reader is not None else []

    @property
    def secrets(self) -> list[bytes]:
        return self._reader.secrets if self._reader is not None else []

    @property
    def error(self) -> FileError | None:
        return self._error if self._reader is None else self._reader.error

    def _open(self) -> Iterator[Packet]:
        position = self._source.fill(Position(b"", 0), 4)
        magic = position.buffer[:4]
        if magic in MAGICS:
            self._reader = PcapReader(self._source, position)
            yield from self._reader.packets()
        else:
            self._error = FileError(0, "wanted a pcap or pcapng file")


def read_packets(stream: BinaryIO) -> CaptureReader:
    """The packets of a capture file, as they are read. The stream may be a pipe."""
    return CaptureReader(stream)
