"""Reads pcapng files (draft-ietf-opsawg-pcapng): several sections and interfaces, either byte order. Pure.

A section begins with a Section Header Block, which says the byte order of what follows. Interface Description Blocks
number the interfaces of their section; packets name one. Blocks that say nothing of packets, interfaces or secrets are
skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from typing import NamedTuple

from meshtls.capture.files.packet import MAX_PACKET, FileError, Interface, Packet, Position
from meshtls.capture.files.source import Source

__all__ = ["SECTION_HEADER", "TLS_KEY_LOG", "Block", "Option", "PcapngReader"]

#: The type of a Section Header Block, the same in both byte orders: what a file begins with.
SECTION_HEADER = b"\n\r\r\n"


class Block:
    """The types of the blocks that are read."""

    SECTION = 0x0A0D0D0A
    INTERFACE = 1
    PACKET = 2
    SIMPLE_PACKET = 3
    STATISTICS = 5
    ENHANCED_PACKET = 6
    SECRETS = 10


class Option:
    """The codes of the options that are read or written, by the block that they are in."""

    END = 0
    COMMENT = 1
    SECTION_HARDWARE, SECTION_SYSTEM, SECTION_APPLICATION = 2, 3, 4
    INTERFACE_NAME, INTERFACE_DESCRIPTION, INTERFACE_RESOLUTION, INTERFACE_OFFSET = 2, 3, 9, 14
    STATISTICS_RECEIVED, STATISTICS_DROPPED = 4, 5


#: The type of secrets that are lines of an SSLKEYLOGFILE.
TLS_KEY_LOG = 0x544C534B
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SMALLEST, _TRAILER, _ENHANCED = 12, 4, 28
_SECOND = 1_000_000_000
#: The end of the year 9999: no later time can be shown.
_LATEST = 253_402_300_799 * _SECOND
#: Bounds of one block that is kept, of all secrets, of the interfaces, and of an interface's name or description.
_MAX_KEPT, _MAX_SECRETS, _MAX_INTERFACES, _MAX_NAME = 16 << 20, 64 << 20, 65_536, 256
#: What one entry costs besides its bytes.
_OVERHEAD = 64


class _Clock(NamedTuple):
    """An interface in its section: the number of it in the file, and how a timestamp becomes nanoseconds."""

    number: int
    link_type: int
    multiplier: int
    divisor: int
    offset_ns: int


class _MalformedError(Exception):
    """The content of a block is not as its type says."""


class PcapngReader:
    """The packets of one file. See ``reading.CaptureReader`` for what the fields mean."""

    format = "pcapng"

    def __init__(self, source: Source, position: Position) -> None:
        """``position``: at SECTION_HEADER."""
        self._source, self._position = source, position
        self.interfaces: list[Interface] = []
        self.secrets: list[bytes] = []
        self.error: FileError | None = None
        self._secret_bytes = 0
        self._order = "<"
        self._clocks: list[_Clock] = []
        self._number = 0
        self._readers = {
            Block.SECTION: ("Section Header Block", self._section),
            Block.INTERFACE: ("Interface Description Block", self._interface),
            Block.PACKET: ("Packet Block", self._packet),
            Block.SIMPLE_PACKET: ("Simple Packet Block", self._simple_packet),
            Block.STATISTICS: ("Interface Statistics Block", self._statistics),
            Block.ENHANCED_PACKET: ("Enhanced Packet Block", self._enhanced_packet),
            Block.SECRETS: ("Decryption Secrets Block", self._secrets),
        }

    def packets(self) -> Iterator[Packet]:
        """Each packet of the file, up to its end or to where it breaks."""
        position = self._position
        while True:
            packet, after = self._next_block(position)
            if packet is not None:
                yield packet
            if after is None:
                return
            position = yield from self._packets_in(after)

    def _packets_in(self, position: Position) -> Generator[Packet, None, Position]:
        """The Enhanced Packet Blocks that are whole in the buffer, up to the first block that is anything else."""
        buffer, at = position
        clocks, number, size = self._clocks, self._number, len(buffer)
        count, last = len(clocks), len(buffer) - _ENHANCED - _TRAILER
        unpack, new, packet_class = struct.Struct(f"{self._order}7I").unpack_from, tuple.__new__, Packet
        while at <= last:
            kind, total, interface, high, low, captured, original = unpack(buffer, at)
            end = at + total
            if kind != Block.ENHANCED_PACKET or interface >= count or end > size or not captured + 32 <= total:
                break
            if total & 3 or captured > MAX_PACKET or buffer[end - 4 : end] != buffer[at + 4 : at + 8]:
                break
            interface, link_type, multiplier, divisor, offset_ns = clocks[interface]
            time_ns = (high << 32 | low) * multiplier // divisor + offset_ns
            if not 0 <= time_ns <= _LATEST:
                time_ns = _bounded(time_ns)
            begin = at + _ENHANCED
            number += 1
            data = buffer[begin : begin + captured]
            yield new(packet_class, (number, time_ns, interface, link_type, data, original))
            at = end
        self._number = number
        return Position(buffer, at)

    def _next_block(self, position: Position) -> tuple[Packet | None, Position | None]:
        """Whatever block is next: its packet if it has one, and where the one after it is; None at the end."""
        source = self._source
        buffer, at = position = source.fill(position, _SMALLEST)
        have = len(buffer) - at
        if have < _SMALLEST:
            if have or source.failure:
                self.error = source.short(position, _SMALLEST, "a block's header")
            return None, None
        if buffer[at : at + 4] == SECTION_HEADER:
            order = _ORDERS.get(buffer[at + 8 : at + 12])
            if order is None:
                self.error = source.error(position, f"wanted a byte-order magic, got {buffer[at + 8 : at + 12].hex()}")
                return None, None
            self._order = order
        kind, total = struct.unpack_from(f"{self._order}II", buffer, at)
        if total < _SMALLEST or total % 4:
            self.error = source.error(position, f"wanted a block's length, a multiple of 4 from 12 on, got {total}")
            return None, None
        name, read = self._readers.get(kind, (f"block of type {kind:#x}", None))
        if read is None:
            return None, self._skipped(position, total, name)
        if total > _MAX_KEPT:
            self.error = source.error(position, f"wanted at most {_MAX_KEPT} bytes in {_a(name)}, got {total}")
            return None, None
        buffer, at = position = source.fill(position, total)
        if len(buffer) - at < total:
            self.error = source.short(position, total, _a(name))
            return None, None
        body = buffer[at + 8 : at + total - _TRAILER]
        try:
            self._check_trailer(buffer, at + total - _TRAILER, total)
            packet = read(body)
        except (_MalformedError, struct.error) as error:
            self.error = source.error(position, f"{name}: {error}")
            return None, None
        return packet, Position(buffer, at + total)

    def _skipped(self, position: Position, total: int, name: str) -> Position | None:
        after, skipped = self._source.skip(position, total - _TRAILER)
        after = self._source.fill(after, _TRAILER)
        if skipped < total - _TRAILER or len(after.buffer) - after.at < _TRAILER:
            self.error = self._source.short(after, _TRAILER, f"{_a(name)} of {total} bytes")
            return None
        try:
            self._check_trailer(after.buffer, after.at, total)
        except _MalformedError as error:
            self.error = self._source.error(after, f"{name}: {error}")
            return None
        return Position(after.buffer, after.at + _TRAILER)

    def _check_trailer(self, buffer: bytes, at: int, total: int) -> None:
        [again] = struct.unpack_from(f"{self._order}I", buffer, at)
        if again != total:
            raise _MalformedError(f"wanted its length {total} again at its end, got {again}")

    # -- the blocks --

    def _section(self, body: bytes) -> None:
        _, major, minor, _ = struct.unpack_from(f"{self._order}IHHq", body)
        if major != 1:
            raise _MalformedError(f"wanted version 1, got {major}.{minor}")
        self._clocks = []

    def _interface(self, body: bytes) -> None:
        link_type, _, snapshot_length = struct.unpack_from(f"{self._order}HHI", body)
        interface = Interface(link_type, snapshot_length=snapshot_length)
        multiplier, divisor, offset_ns = 1000, 1, 0
        for code, value in self._options(body, 8):
            match code:
                case Option.INTERFACE_NAME:
                    interface.name = value[:_MAX_NAME].decode("utf-8", "replace")
                case Option.INTERFACE_DESCRIPTION:
                    interface.description = value[:_MAX_NAME].decode("utf-8", "replace")
                case Option.INTERFACE_RESOLUTION if value:
                    multiplier, divisor = _nanoseconds(value[0])
                case Option.INTERFACE_OFFSET if len(value) == 8:
                    offset_ns = struct.unpack(f"{self._order}q", value)[0] * _SECOND
        if len(self.interfaces) >= _MAX_INTERFACES:
            raise _MalformedError(f"wanted at most {_MAX_INTERFACES} interfaces")
        self._clocks.append(_Clock(len(self.interfaces), link_type, multiplier, divisor, offset_ns))
        self.interfaces.append(interface)

    def _enhanced_packet(self, body: bytes) -> Packet:
        interface, high, low, captured, original = struct.unpack_from(f"{self._order}5I", body)
        return self._timed(self._clock(interface), high << 32 | low, body, 20, captured, original)

    def _packet(self, body: bytes) -> Packet:
        interface, _, high, low, captured, original = struct.unpack_from(f"{self._order}HH4I", body)
        return self._timed(self._clock(interface), high << 32 | low, body, 20, captured, original)

    def _simple_packet(self, body: bytes) -> Packet:
        [original] = struct.unpack_from(f"{self._order}I", body)
        clock = self._clock(0)
        captured = min(original, self.interfaces[clock.number].snapshot_length or original)
        return self._timed(clock._replace(offset_ns=0), 0, body, 4, captured, original)

    def _timed(self, clock: _Clock, ticks: int, body: bytes, begin: int, captured: int, original: int) -> Packet:
        if captured > MAX_PACKET or begin + captured > len(body):
            most = min(MAX_PACKET, len(body) - begin)
            raise _MalformedError(f"wanted a packet of at most {most} bytes, got {captured}")
        self._number += 1
        time_ns = _bounded(ticks * clock.multiplier // clock.divisor + clock.offset_ns)
        data = body[begin : begin + captured]
        return Packet(self._number, time_ns, clock.number, clock.link_type, data, original)

    def _statistics(self, body: bytes) -> None:
        interface = self.interfaces[self._clock(struct.unpack_from(f"{self._order}I8x", body)[0]).number]
        for code, value in self._options(body, 12):
            if len(value) == 8:
                [count] = struct.unpack(f"{self._order}Q", value)
                if code == Option.STATISTICS_RECEIVED:
                    interface.received = count
                elif code == Option.STATISTICS_DROPPED:
                    interface.dropped = count

    def _secrets(self, body: bytes) -> None:
        kind, length = struct.unpack_from(f"{self._order}II", body)
        if 8 + length > len(body):
            raise _MalformedError(f"wanted at most {len(body) - 8} bytes of secrets, got {length}")
        if kind != TLS_KEY_LOG:
            return
        self._secret_bytes += length + _OVERHEAD
        if self._secret_bytes > _MAX_SECRETS:
            self._secret_bytes = sum(len(kept) + _OVERHEAD for kept in self.secrets) + length + _OVERHEAD
        if self._secret_bytes > _MAX_SECRETS:
            raise _MalformedError(f"wanted at most {_MAX_SECRETS} bytes of secrets in all")
        self.secrets.append(body[8 : 8 + length])

    def _clock(self, interface: int) -> _Clock:
        if interface >= len(self._clocks):
            raise _MalformedError(f"wanted one of {len(self._clocks)} interfaces of the section, got {interface}")
        return self._clocks[interface]

    def _options(self, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= len(body):
            code, length = struct.unpack_from(f"{self._order}HH", body, at)
            if code == Option.END:
                return
            at += 4
            if at + length > len(body):
                raise _MalformedError(f"wanted at most {len(body) - at} bytes in option {code}, got {length}")
            yield code, body[at : at + length]
            at += (length + 3) & ~3


def _nanoseconds(resolution: int) -> tuple[int, int]:
    """The two numbers by which a timestamp is multiplied and divided, from if_tsresol: a negative power of 10, or of 2
    with the top bit.
    """
    power = resolution & 0x7F
    if resolution & 0x80:
        return _SECOND, 1 << power
    return (10 ** (9 - power), 1) if power <= 9 else (1, 10 ** (power - 9))


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'EI' else 'a'} {name}"


def _bounded(time_ns: int) -> int:
    return min(max(time_ns, 0), _LATEST)
