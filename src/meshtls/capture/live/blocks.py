"""What the kernel writes into a block of a TPACKET_V3 ring (linux/if_packet.h): packets with their times. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from meshtls.capture.links import ETHERNET

__all__ = ["BLOCK_STATUS", "Captured", "packets_of"]

#: Where a block's status is: whose it is, the kernel's (0) or ours (1).
BLOCK_STATUS = 8
_SECOND = 1_000_000_000
#: Of the block: number of packets, offset of the first.
_BLOCK = struct.Struct("=12xII")
#: Of a packet: next, seconds, nanoseconds, captured, length, status, offset of its bytes; VLAN tag and its type.
_PACKET = struct.Struct("=IIIIIIH6xIH")
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_VLAN = 0x8100
#: Where the EtherType of an Ethernet frame is.
_ETHER_TYPE = 12


class Captured(NamedTuple):
    """A packet: its time since the epoch, its first bytes, and how many it had."""

    time_ns: int
    data: bytes
    original_length: int


def packets_of(block: memoryview, link_type: int) -> Iterator[Captured]:
    """Copies the packets out of a block, before it is given back to the kernel."""
    count, at = _BLOCK.unpack_from(block)
    for _ in range(count):
        following, seconds, rest, size, length, status, begin, tag, tag_type = _PACKET.unpack_from(block, at)
        data = bytes(block[at + begin : at + begin + size])
        if status & _VLAN_VALID and link_type == ETHERNET:
            # The kernel has taken the tag out: put it back where it was on the wire.
            kind = tag_type if status & _TPID_VALID else _VLAN
            data = data[:_ETHER_TYPE] + struct.pack("!HH", kind, tag & 0xFFFF) + data[_ETHER_TYPE:]
            length += 4
        yield Captured(seconds * _SECOND + rest, data, length)
        at += following
