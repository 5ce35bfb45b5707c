"""Writes pcap and pcapng files, with nanoseconds. Pure: the stream is given.

A pcapng file can have the TLS secrets of its connections inside, so that Wireshark opens it decrypted. They have to
come before the packets that they decrypt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

from meshtls.capture.files.packet import MAX_PACKET
from meshtls.capture.files.pcapng import TLS_KEY_LOG, Block, Option

__all__ = ["PcapWriter", "PcapngWriter"]

_NANOSECOND_MAGIC = 0xA1B23C4D
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_SECOND = 1_000_000_000
_NANOSECONDS = 9
_MAX_OPTION = 0xFFFF


class PcapWriter:
    """Writes a pcap file of one link type."""

    def __init__(self, stream: BinaryIO, link_type: int, snapshot_length: int = MAX_PACKET) -> None:
        self._write = stream.write
        self._write(struct.pack("<IHHIIII", _NANOSECOND_MAGIC, 2, 4, 0, 0, snapshot_length, link_type))

    def packet(self, time_ns: int, data: bytes, original_length: int | None = None) -> None:
        """Write a packet; ``original_length`` where ``data`` is not all of it. Its time has to be before 2106."""
        seconds, rest = divmod(time_ns, _SECOND)
        length = len(data) if original_length is None else original_length
        self._write(struct.pack("<IIII", seconds, rest, len(data), length) + data)


class PcapngWriter:
    """Writes a pcapng file of one section."""

    def __init__(self, stream: BinaryIO, *, comment: str = "", application: str = "meshtls") -> None:
        """``comment``: about the whole file."""
        self._write, self._interfaces = stream.write, 0
        options = [(Option.SECTION_APPLICATION, application.encode())]
        body = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
        self._block(Block.SECTION, body, [*_comment(comment), *options])

    def interface(
        self, link_type: int, name: str = "", snapshot_length: int = MAX_PACKET, *, description: str = ""
    ) -> int:
        """Describe an interface. Returns the number by which its packets name it."""
        options = [(Option.INTERFACE_RESOLUTION, bytes([_NANOSECONDS]))]
        if name:
            options.append((Option.INTERFACE_NAME, name.encode()))
        if description:
            options.append((Option.INTERFACE_DESCRIPTION, description.encode()))
        self._block(Block.INTERFACE, struct.pack("<HHI", link_type, 0, snapshot_length), options)
        self._interfaces += 1
        return self._interfaces - 1

    def secrets(self, key_log: bytes) -> None:
        """TLS secrets, as lines of an SSLKEYLOGFILE."""
        self._block(Block.SECRETS, struct.pack("<II", TLS_KEY_LOG, len(key_log)) + _padded(key_log), [])

    def packet(
        self, interface: int, time_ns: int, data: bytes, original_length: int | None = None, comment: str = ""
    ) -> None:
        """Write a packet; ``original_length`` where ``data`` is not all of it."""
        length = len(data) if original_length is None else original_length
        head = struct.pack("<IIIII", interface, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(data), length)
        self._block(Block.ENHANCED_PACKET, head + _padded(data), _comment(comment))

    def statistics(self, interface: int, time_ns: int, *, received: int, dropped: int) -> None:
        """What the capture counted on the interface, at its end."""
        head = struct.pack("<III", interface, time_ns >> 32, time_ns & 0xFFFF_FFFF)
        counts = ((Option.STATISTICS_RECEIVED, received), (Option.STATISTICS_DROPPED, dropped))
        self._block(Block.STATISTICS, head, [(code, struct.pack("<Q", count)) for code, count in counts])

    def _block(self, kind: int, body: bytes, options: Iterable[tuple[int, bytes]]) -> None:
        written = [body]
        for code, value in options:
            written += (struct.pack("<HH", code, len(value)), _padded(value))
        if len(written) > 1:
            written.append(struct.pack("<HH", Option.END, 0))
        content = b"".join(written)
        total = len(content) + 12
        self._write(struct.pack("<II", kind, total) + content + struct.pack("<I", total))


def _comment(text: str) -> list[tuple[int, bytes]]:
    return [(Option.COMMENT, text.encode("utf-8", "replace")[:_MAX_OPTION])] if text else []


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
