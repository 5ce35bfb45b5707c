"""From captured packets to TCP segments: link layer, IP, fragments. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import msgspec

from meshtls.capture.files.packet import Packet
from meshtls.capture.fragments import Fragments, Whole
from meshtls.capture.ip import TCP, Datagram, chained, ipv4, ipv6
from meshtls.capture.links import IPV4, IPV6, LINK_TYPES, ip_header

__all__ = ["Segment", "Segments", "Totals"]

#: Sequence and acknowledgement number, data offset, flags, window.
_TCP = struct.Struct("!4xIIBBH").unpack_from
_TCP_HEADER = 20
_MOST_LINK_TYPES = 64


@dataclass(slots=True)
class Totals:
    """Packets that belong to no connection, by why, and what was given up.

    - ``not_ip``, ``not_tcp``: of other protocols. ``malformed``: with an IP or TCP header that is invalid or was not
      captured.
    - ``without_flow``: TCP without data, SYN and FIN, of a connection of which nothing else was seen.
    - ``given_up``: connections, for ``Limits.flows``.
    - ``unknown_link_types``: packets by link types that we do not read; at most 64 of these.
    """

    not_ip: int = 0
    not_tcp: int = 0
    malformed: int = 0
    without_flow: int = 0
    given_up: int = 0
    unknown_link_types: dict[int, int] = field(default_factory=dict)


class Segment(msgspec.Struct, frozen=True, gc=False):
    """A TCP segment.

    - ``key``: source and destination address, source and destination port, as in the packet.
    - ``data``: the captured bytes; the TCP header is at ``at`` in them, the payload at ``begin``.
    - ``span``: the length of the payload on the wire; not all of it need have been captured.
    - ``identification``: of the IPv4 header, 0 where there is none.
    - ``earlier_wire``: of an IP packet in fragments, the bytes of all but the last of them to come, as the link carried
      them.
    """

    key: bytes
    data: bytes
    at: int
    begin: int
    span: int
    seq: int
    ack: int
    flags: int
    window: int
    identification: int
    time_ns: int
    number: int
    earlier_wire: int = 0


class Segments:
    """Finds the TCP segments in packets of any link type that we read, and counts the packets that have none."""

    def __init__(self, fragment_bytes: int) -> None:
        """``fragment_bytes``: of memory for IP packets that are not complete."""
        self.totals = Totals()
        self.fragments = Fragments(fragment_bytes)

    def of(self, packet: Packet) -> Segment | None:
        """The segment in the packet, or the one that the fragment in it completes; None if there is none."""
        data, totals = packet.data, self.totals
        if packet.link_type not in LINK_TYPES:
            counts = totals.unknown_link_types
            if packet.link_type in counts or len(counts) < _MOST_LINK_TYPES:
                counts[packet.link_type] = counts.get(packet.link_type, 0) + 1
            return None
        kind, at = ip_header(packet.link_type, data)
        if kind not in (IPV4, IPV6):
            totals.not_ip += 1
            return None
        wire_end, earlier_wire = max(packet.original_length, len(data)), 0
        datagram = (ipv4 if kind == IPV4 else ipv6)(data, at, wire_end)
        if datagram is not None and datagram.fragment is not None:
            if kind == IPV4 and datagram.protocol != TCP:
                totals.not_tcp += 1
                return None
            whole = self._completed(datagram, datagram.fragment, packet)
            if whole is None:
                return None
            data, earlier_wire = whole.payload, whole.wire - packet.original_length
            identification = datagram.fragment[2] if kind == IPV4 else 0
            datagram = chained(data, whole.protocol, datagram.addresses, 0, len(data))
            if datagram is not None:
                datagram = datagram._replace(identification=identification)
        if datagram is None or datagram.fragment is not None:
            totals.malformed += 1
            return None
        return self._tcp(packet, datagram, data, earlier_wire)

    def _completed(self, datagram: Datagram, fragment: tuple[int, bool, int], packet: Packet) -> Whole | None:
        data = packet.data
        offset, more, identification = fragment
        key = datagram.addresses + identification.to_bytes(4, "big")
        payload, cut = data[datagram.begin : datagram.end], datagram.end > len(data)
        time_ns, wire = packet.time_ns, packet.original_length
        return self.fragments.add(key, datagram.protocol, offset, more, payload, cut=cut, time_ns=time_ns, wire=wire)

    def _tcp(self, packet: Packet, datagram: Datagram, data: bytes, earlier_wire: int) -> Segment | None:
        protocol, addresses, at, end, identification, _ = datagram
        if protocol != TCP:
            self.totals.not_tcp += 1
            return None
        if len(data) < at + _TCP_HEADER:
            self.totals.malformed += 1
            return None
        seq, ack, offset, flags, window = _TCP(data, at)
        begin = at + (offset >> 2 & 0x3C)
        if not at + _TCP_HEADER <= begin <= end:
            self.totals.malformed += 1
            return None
        key, span = addresses + data[at : at + 4], end - begin
        number, time_ns = packet.number, packet.time_ns
        return Segment(
            key, data, at, begin, span, seq, ack, flags, window, identification, time_ns, number, earlier_wire
        )
