"""Blocks of pcapng files, made field by field, in either byte order."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from meshtls.capture.files.packet import Packet
from meshtls.capture.files.reading import CaptureReader, read_packets

__all__ = ["Blocks", "everything"]


@dataclass(frozen=True)
class Blocks:
    """Makes blocks; ``order`` is that of struct."""

    order: str = "<"

    def pack(self, fields: str, *values: int) -> bytes:
        """As struct.pack, in the byte order."""
        return struct.pack(self.order + fields, *values)

    def block(self, kind: int, body: bytes, options: tuple[tuple[int, bytes], ...] = ()) -> bytes:
        """Any block."""
        for code, value in options:
            body += self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)
        body += bytes(4) if options else b""
        body += bytes(-len(body) % 4)
        total = self.pack("I", len(body) + 12)
        return self.pack("I", kind) + total + body + total

    def section(self, major: int = 1, length: int = -1) -> bytes:
        """A Section Header Block."""
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, major, 0, length))

    def interface(self, link_type: int = 1, snapshot: int = 0, *options: tuple[int, bytes]) -> bytes:
        """An Interface Description Block."""
        return self.block(1, self.pack("HHI", link_type, 0, snapshot), options)

    def enhanced(
        self, data: bytes, ticks: int = 0, interface: int = 0, *options: tuple[int, bytes], original: int = 0
    ) -> bytes:
        """An Enhanced Packet Block."""
        fields = (interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), original or len(data))
        return self.block(6, self.pack("5I", *fields) + data + bytes(-len(data) % 4), options)

    def simple(self, data: bytes, original: int = 0) -> bytes:
        """A Simple Packet Block."""
        return self.block(3, self.pack("I", original or len(data)) + data)

    def obsolete(self, data: bytes, ticks: int = 0, interface: int = 0) -> bytes:
        """A Packet Block."""
        fields = (interface, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(2, self.pack("HH4I", *fields) + data)

    def secrets(self, data: bytes, kind: int = 0x544C534B) -> bytes:
        """A Decryption Secrets Block."""
        return self.block(10, self.pack("II", kind, len(data)) + data)


def everything(data: bytes) -> tuple[list[Packet], CaptureReader]:
    """The packets of a file, and its reader at the end."""
    reader = read_packets(io.BytesIO(data))
    return list(reader), reader
