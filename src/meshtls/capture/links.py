"""What a captured packet begins with: where its IP header is, for each link type that we read. Pure.

The numbers are those of https://www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ETHERNET", "IPV4", "IPV6", "LINK_TYPES", "ip_header"]

ETHERNET = 1
IPV4, IPV6 = 0x0800, 0x86DD
#: 802.1Q, 802.1ad, and what was used for stacked tags before it.
_TAGS = {0x8100, 0x88A8, 0x9100, 0x9200, 0x9300}
#: AF_INET and the values that AF_INET6 has on the systems that write such files, in either byte order.
_FAMILIES = {
    number.to_bytes(4, order): kind
    for number, kind in ((2, IPV4), (10, IPV6), (24, IPV6), (28, IPV6), (30, IPV6))
    for order in ("little", "big")
}
#: No IP packet, or its header is not there.
_NONE = (0, 0)

Place = tuple[int, int]


def _tagged(data: bytes, at: int) -> Place:
    """Where the packet behind the EtherType at ``at`` begins, past any VLAN tags."""
    kind = int.from_bytes(data[at : at + 2], "big")
    while kind in _TAGS:
        at += 4
        kind = int.from_bytes(data[at : at + 2], "big")
    return kind, at + 2


def _ethernet(data: bytes) -> Place:
    return _tagged(data, 12)


def _cooked(data: bytes) -> Place:
    return _tagged(data, 14)


def _cooked_2(data: bytes) -> Place:
    kind = int.from_bytes(data[:2], "big")
    return _tagged(data, 22) if kind in _TAGS else (kind, 20)


def _loopback(data: bytes) -> Place:
    return _FAMILIES.get(data[:4], 0), 4


def _raw(data: bytes) -> Place:
    version = data[0] >> 4 if data else 0
    return {4: (IPV4, 0), 6: (IPV6, 0)}.get(version, _NONE)


def _ipv4(_data: bytes) -> Place:
    return IPV4, 0


def _ipv6(_data: bytes) -> Place:
    return IPV6, 0


#: The link types that we read: their names, and where the IP header is.
LINK_TYPES: dict[int, tuple[str, Callable[[bytes], Place]]] = {
    0: ("BSD loopback", _loopback),
    ETHERNET: ("Ethernet", _ethernet),
    12: ("raw IP", _raw),
    14: ("raw IP", _raw),
    101: ("raw IP", _raw),
    108: ("OpenBSD loopback", _loopback),
    113: ("Linux cooked", _cooked),
    228: ("raw IPv4", _ipv4),
    229: ("raw IPv6", _ipv6),
    276: ("Linux cooked v2", _cooked_2),
}


def ip_header(link_type: int, data: bytes) -> Place:
    """The EtherType of what the packet carries, and the offset of its header. The EtherType is 0 if there is none.

    Raises KeyError if the link type is none of LINK_TYPES.
    """
    return LINK_TYPES[link_type][1](data)
