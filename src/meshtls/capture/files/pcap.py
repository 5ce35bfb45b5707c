"""Reads pcap files (draft-ietf-opsawg-pcap), of either byte order, in microseconds or nanoseconds. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from meshtls.capture.files.packet import MAX_PACKET, FileError, Interface, Packet, Position
from meshtls.capture.files.source import Source

__all__ = ["MAGICS", "PcapReader"]

#: The first four bytes: byte order, and nanoseconds for each unit of the fraction of a second.
MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_FILE_HEADER, _PACKET_HEADER = 24, 16
#: Above it the field has the length of the frame check sequence.
_LINK_TYPE = 0x03FF_FFFF
_MAJOR = 2
_SECOND = 1_000_000_000


class PcapReader:
    """The packets of one file. See ``reading.CaptureReader`` for what the fields mean."""

    format = "pcap"

    def __init__(self, source: Source, position: Position) -> None:
        """``position``: at the magic, which has to be one of MAGICS."""
        self._source, self._position = source, position
        self.interfaces: list[Interface] = []
        self.secrets: list[bytes] = []
        self.error: FileError | None = None

    def packets(self) -> Iterator[Packet]:
        """Each packet of the file, up to its end or to where it breaks."""
        source = self._source
        position = source.fill(self._position, _FILE_HEADER)
        buffer, at = position
        order, unit = MAGICS[buffer[at : at + 4]]
        if len(buffer) - at < _FILE_HEADER:
            self.error = source.short(position, _FILE_HEADER, "the file's header")
            return
        major, minor, snapshot, network = struct.unpack_from(f"{order}HH8xII", buffer, at + 4)
        if major != _MAJOR:
            self.error = source.error(position, f"wanted pcap version 2, got {major}.{minor}")
            return
        link_type = network & _LINK_TYPE
        self.interfaces.append(Interface(link_type, snapshot_length=snapshot))
        unpack, new, packet_class, number, size = struct.Struct(f"{order}IIII").unpack_from, tuple.__new__, Packet, 0, 0
        at, size = at + _FILE_HEADER, len(buffer)
        while True:
            begin = at + _PACKET_HEADER
            if begin > size:
                buffer, at = position = source.fill(Position(buffer, at), _PACKET_HEADER)
                begin, size = at + _PACKET_HEADER, len(buffer)
                if begin > size:
                    if at < size or source.failure:
                        self.error = source.short(position, _PACKET_HEADER, "a packet's header")
                    return
            seconds, fraction, captured, original = unpack(buffer, at)
            end = begin + captured
            if end > size:
                wanted = _PACKET_HEADER + captured
                if captured <= MAX_PACKET:
                    buffer, at = position = source.fill(Position(buffer, at), wanted)
                    begin, size = at + _PACKET_HEADER, len(buffer)
                    end = begin + captured
                    if end > size:
                        self.error = source.short(position, wanted, f"packet {number + 1}")
                        return
            if captured > MAX_PACKET:
                self.error = source.error(
                    Position(buffer, at),
                    f"packet {number + 1} has {captured} bytes, more than {MAX_PACKET}: the file is damaged",
                )
                return
            number += 1
            time_ns = seconds * _SECOND + fraction * unit
            yield new(packet_class, (number, time_ns, 0, link_type, buffer[begin:end], original))
            at = end
