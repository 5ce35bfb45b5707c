"""IP and TCP headers around the bytes of a connection whose packets nobody captured. Pure.

Addresses, ports, bytes and times are the connection's own. The handshake of TCP, sequence numbers, acknowledgements and
the cuts between packets are invented: a reader needs them to put the bytes together. The description of the interface
in the file, ``SYNTHETIC_HEADERS``, says so, and a reader tells no figures that depend on them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from meshtls.wire.side import Side

__all__ = ["MOST_PAYLOAD", "RAW_IP", "SYNTHETIC_HEADERS", "Conversation"]

#: The link type of packets that begin with an IP header.
RAW_IP = 101
#: The description of an interface whose packets have such headers.
SYNTHETIC_HEADERS = "synthetic TCP and IP headers"
#: Bytes of one packet's payload.
MOST_PAYLOAD = 1 << 15
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16
_WINDOW, _TTL, _TCP, _HEADER = 0xFFFF, 64, 6, 20
_MASK = 0xFFFF_FFFF

End = tuple[str, int]


class Conversation:
    """The packets of one connection, in both directions."""

    __slots__ = ("_ended", "_ends", "_next")

    def __init__(self, client: End, server: End) -> None:
        """Each an IP address and a port. Raises ValueError where they are none of the same version."""
        ends = {Side.CLIENT: _end(client), Side.SERVER: _end(server)}
        if len({one[0].version for one in ends.values()}) != 1:
            raise ValueError("wanted two addresses of the same version of IP")
        self._ends = ends
        self._next = {Side.CLIENT: 0, Side.SERVER: 0}
        self._ended: set[Side] = set()

    def open(self) -> Iterator[bytes]:
        """SYN, SYN-ACK, ACK."""
        yield self._packet(Side.CLIENT, _SYN)
        yield self._packet(Side.SERVER, _SYN | _ACK)
        yield self._packet(Side.CLIENT, _ACK)

    def data(self, side: Side, data: bytes) -> Iterator[bytes]:
        """What ``side`` sent; nothing after its end."""
        if side in self._ended:
            return
        for at in range(0, len(data), MOST_PAYLOAD):
            yield self._packet(side, _PSH | _ACK, data[at : at + MOST_PAYLOAD])

    def end(self, side: Side) -> Iterator[bytes]:
        """FIN of ``side``, once."""
        if side not in self._ended:
            self._ended.add(side)
            yield self._packet(side, _FIN | _ACK)

    def _packet(self, side: Side, flags: int, payload: bytes = b"") -> bytes:
        (source, source_port), (destination, destination_port) = self._ends[side], self._ends[side.other]
        seq, ack = self._next[side], self._next[side.other] if flags & _ACK else 0
        self._next[side] = (seq + len(payload) + bool(flags & (_SYN | _FIN))) & _MASK
        offset = _HEADER << 2
        ports = (source_port, destination_port)
        length = _HEADER + len(payload)
        pseudo = source.packed + destination.packed + struct.pack("!II", length, _TCP)
        head = struct.pack("!HHIIBBHHH", *ports, seq, ack, offset, flags, _WINDOW, 0, 0)
        head = struct.pack(
            "!HHIIBBHHH", *ports, seq, ack, offset, flags, _WINDOW, _checksum(pseudo + head + payload), 0
        )
        if source.version == 6:
            return (
                struct.pack("!IHBB", 6 << 28, length, _TCP, _TTL) + source.packed + destination.packed + head + payload
            )
        ip = struct.pack("!BBHHHBBH", 0x45, 0, _HEADER + length, 0, 0x4000, _TTL, _TCP, 0) + source.packed
        ip += destination.packed
        return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + head + payload


def _end(given: End) -> tuple[IPv4Address | IPv6Address, int]:
    address = ip_address(given[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped, given[1]
    return address, given[1]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of bytes that are not all zero: the sum of 16-bit words modulo 65535, which one
    division gives. It is 0 and not 65535 where that sum is a multiple of 65535.
    """
    whole = data if len(data) % 2 == 0 else data + b"\0"
    return -int.from_bytes(whole, "big") % 0xFFFF
