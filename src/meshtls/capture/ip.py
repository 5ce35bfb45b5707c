"""IP headers: IPv4 with options (RFC 791), IPv6 with extension headers (RFC 8200). Pure.

Checksums are not checked: with offload the captured ones are often wrong.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["TCP", "Datagram", "chained", "ipv4", "ipv6"]

TCP = 6
_V4 = struct.Struct("!BxHHHxB2x").unpack_from
_V4_HEADER, _V6_HEADER = 20, 40
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
#: Extension headers whose length is in units of 8 bytes, without the first.
_SIMPLE = {_HOP_BY_HOP, _ROUTING, _DESTINATION, 135, 139, 140}
_MORE_V4, _OFFSET_V4 = 0x2000, 0x1FFF


class Datagram(NamedTuple):
    """An IP packet, or a fragment of one.

    - ``protocol``: of what is at ``begin``: 6 is TCP. For a fragment that is not the first, of what is in the first.
    - ``addresses``: the source, then the destination.
    - ``begin``, ``end``: where the payload is; ``end`` may be after the captured bytes.
    - ``identification``: of IPv4, 0 if the packet has none.
    - ``fragment``: None for a whole packet; otherwise offset, whether more follow, and the identification.
    """

    protocol: int
    addresses: bytes
    begin: int
    end: int
    identification: int
    fragment: tuple[int, bool, int] | None


def ipv4(data: bytes, at: int, wire_end: int) -> Datagram | None:
    """The packet whose header is at ``at``; None if it is malformed, or its header was not captured.

    ``wire_end``: where the packet ended on the wire, for a total length of 0, which segmentation offload leaves.
    """
    if len(data) < at + _V4_HEADER:
        return None
    first, total, identification, fragment, protocol = _V4(data, at)
    begin = at + ((first & 0x0F) << 2)
    end = at + total if total else wire_end
    if first >> 4 != 4 or begin < at + _V4_HEADER or end < begin or len(data) < begin:
        return None
    offset = (fragment & _OFFSET_V4) << 3
    more = bool(fragment & _MORE_V4)
    parts = (offset, more, identification) if offset or more else None
    return Datagram(protocol, data[at + 12 : at + 20], begin, end, identification, parts)


def ipv6(data: bytes, at: int, wire_end: int) -> Datagram | None:
    """As ``ipv4``. A payload length of 0 is that of a jumbogram (RFC 2675) or of segmentation offload."""
    begin = at + _V6_HEADER
    if len(data) < begin or data[at] >> 4 != 6:
        return None
    length = int.from_bytes(data[at + 4 : at + 6], "big")
    addresses = data[at + 8 : begin]
    end = begin + length if length else wire_end
    return chained(data, data[at + 6], addresses, begin, end)


def chained(data: bytes, protocol: int, addresses: bytes, begin: int, end: int) -> Datagram | None:
    """What follows the extension headers from ``begin`` on, the first of which is ``protocol``."""
    limit = min(end, len(data))
    while protocol in _SIMPLE or protocol in (_AUTHENTICATION, _FRAGMENT):
        if begin + 8 > limit:
            return None
        following, length = data[begin], data[begin + 1]
        if protocol == _FRAGMENT:
            field = int.from_bytes(data[begin + 2 : begin + 4], "big")
            identification = int.from_bytes(data[begin + 4 : begin + 8], "big")
            begin += 8
            if field & 0xFFF9:
                return Datagram(following, addresses, begin, end, 0, (field & 0xFFF8, bool(field & 1), identification))
        else:
            begin += (length + 2) << 2 if protocol == _AUTHENTICATION else (length + 1) << 3
        protocol = following
    if begin > end:
        return None
    return Datagram(protocol, addresses, begin, end, 0, None)
