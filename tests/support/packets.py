"""Packets, made field by field, capture files of them, and a sink that keeps what it is told."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from meshtls.capture.files.packet import Packet
from meshtls.capture.files.reading import read_packets
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.tcp import Flows, Limits
from meshtls.wire.side import Side

__all__ = [
    "ACK",
    "CLIENT",
    "EPOCH",
    "FIN",
    "MS",
    "PSH",
    "RST",
    "SERVER",
    "SYN",
    "Kept",
    "Seen",
    "Talk",
    "captured",
    "ethernet",
    "ip",
    "pcap",
    "read",
    "tcp",
]

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MS = 1_000_000
#: 2023-11-14, so that tools print an ordinary date.
EPOCH = 1_700_000_000 * 1000 * MS
CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 443)
End = tuple[str, int]


def tcp(
    source: End,
    destination: End,
    seq: int,
    ack: int = 0,
    flags: int = ACK,
    payload: bytes = b"",
    *,
    window: int = 64_000,
    options: bytes = b"",
) -> bytes:
    """A TCP segment with a correct checksum."""
    offset = (20 + len(options)) // 4
    fields = (source[1], destination[1], seq % 2**32, ack % 2**32, offset << 4, flags, window)
    head = struct.pack("!HHIIBBH", *fields)
    addresses = ip_address(source[0]).packed + ip_address(destination[0]).packed
    pseudo = addresses + struct.pack("!IHH", 20 + len(options) + len(payload), 0, 6)
    return head + struct.pack("!HH", _checksum(pseudo + head + bytes(4) + options + payload), 0) + options + payload


def ip(source: str, destination: str, payload: bytes, *, ident: int = 0, fragment: int = 0, protocol: int = 6) -> bytes:
    """An IPv4 packet, or IPv6 if the addresses are. ``fragment``: IPv4's flags and offset field."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    if len(addresses) == 32:
        return struct.pack("!IHBB", 0x6000_0000, len(payload), protocol, 64) + addresses + payload
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol)
    return head + struct.pack("!H", _checksum(head + b"\0\0" + addresses)) + addresses + payload


def ethernet(packet: bytes, *tags: int) -> bytes:
    """A frame around an IP packet. ``tags``: VLAN identifiers, the outer one first."""
    kinds = [0x8100] if len(tags) == 1 else [0x88A8, *[0x8100] * (len(tags) - 1)]
    vlans = b"".join(struct.pack("!HH", kind, tag) for kind, tag in zip(kinds, tags, strict=False))
    return b"\2\0\0\0\0\2" + b"\2\0\0\0\0\1" + vlans + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + packet


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def captured(frames: Iterable[bytes], *, link_type: int = 1, every_ns: int = MS) -> list[Packet]:
    """The frames as packets of a capture, one each millisecond."""
    return [
        Packet(number, EPOCH + number * every_ns, 0, link_type, frame, len(frame))
        for number, frame in enumerate(frames, 1)
    ]


def pcap(packets: Iterable[Packet], *, order: str = "<", nano: bool = True, link_type: int = 1) -> bytes:
    """A pcap file."""
    magic, unit = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1000)
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)]
    for packet in packets:
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        parts += [
            struct.pack(f"{order}IIII", seconds, rest // unit, len(packet.data), packet.original_length),
            packet.data,
        ]
    return b"".join(parts)


class Talk:
    """Makes the frames of one connection: each method gives the next frame of one end."""

    def __init__(
        self, client: End = CLIENT, server: End = SERVER, *, isns: tuple[int, int] = (1000, 5000), ident: int = 1
    ) -> None:
        self.ends = {Side.CLIENT: client, Side.SERVER: server}
        self.isn = {Side.CLIENT: isns[0], Side.SERVER: isns[1]}
        self.next = dict(self.isn)
        self.ident = ident

    def send(
        self,
        side: Side,
        payload: bytes = b"",
        flags: int = ACK,
        *,
        seq: int | None = None,
        ack: int | None = None,
        window: int = 64_000,
        options: bytes = b"",
    ) -> bytes:
        """A segment. ``seq``: of one that is not the next; the next stays where it is. ``ack``: what it acknowledges,
        instead of all that the other end has sent."""
        acked = ack if ack is not None else self.next[side.other] if flags & ACK else 0
        at = self.next[side] if seq is None else seq
        if seq is None:
            self.next[side] = (at + len(payload) + bool(flags & SYN) + bool(flags & FIN)) % 2**32
        source, destination = self.ends[side], self.ends[side.other]
        self.ident = self.ident % 65535 + 1
        segment = tcp(source, destination, at, acked, flags, payload, window=window, options=options)
        return ethernet(ip(source[0], destination[0], segment, ident=self.ident))

    def client(self, payload: bytes = b"", flags: int = ACK, *, seq: int | None = None) -> bytes:
        """A segment of the client."""
        return self.send(Side.CLIENT, payload, flags, seq=seq)

    def server(self, payload: bytes = b"", flags: int = ACK, *, seq: int | None = None) -> bytes:
        """A segment of the server."""
        return self.send(Side.SERVER, payload, flags, seq=seq)

    def handshake(self) -> list[bytes]:
        """SYN, SYN with ACK, ACK."""
        return [self.client(flags=SYN), self.server(flags=SYN | ACK), self.client()]

    def close(self) -> list[bytes]:
        """Both ends close, the client first."""
        return [self.client(flags=FIN | ACK), self.server(flags=FIN | ACK), self.client()]


Event = tuple[str, Side, bytes | int | Ending]


@dataclass
class Seen:
    """A sink for each flow, and what they were told."""

    flows: list[Flow] = field(default_factory=list)
    sinks: list[Kept] = field(default_factory=list)

    def opened(self, flow: Flow) -> Kept:
        """Takes a new connection."""
        self.flows.append(flow)
        self.sinks.append(Kept())
        return self.sinks[-1]


@dataclass
class Kept:
    """What a sink was told, in order; adjacent data of one side is joined."""

    events: list[Event] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        """Part of ``FlowSink``."""
        self.numbers.append(packet)
        if self.events and self.events[-1][:2] == ("data", side):
            last = self.events[-1][2]
            assert isinstance(last, bytes)
            self.events[-1] = ("data", side, last + data)
        else:
            self.events.append(("data", side, bytes(data)))

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self.events.append(("gap", side, missing))

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        assert ("ended", side) not in [event[:2] for event in self.events], "a side ends once"
        self.events.append(("ended", side, how))

    def stream(self, side: Side) -> list[bytes | int]:
        """The bytes and gaps of one side."""
        parts: list[bytes | int] = []
        for what, of, value in self.events:
            if of is side and what != "ended" and not isinstance(value, Ending):
                if parts and isinstance(value, bytes) and isinstance(last := parts[-1], bytes):
                    parts[-1] = last + value
                else:
                    parts.append(value)
        return parts

    def ending(self, side: Side) -> Ending | None:
        """How the side ended."""
        return next((value for what, of, value in self.events if (what, of) == ("ended", side)), None)  # type: ignore[return-value]


def read(packets: Sequence[Packet], limits: Limits | None = None, *, through_a_file: bool = True) -> tuple[Seen, Flows]:
    """What is told of these packets, by way of a pcap file."""
    seen = Seen()
    flows = Flows(seen.opened, limits)
    source: Iterable[Packet] = packets
    if through_a_file:
        source = reader = read_packets(io.BytesIO(pcap(packets, link_type=packets[0].link_type if packets else 1)))
    for packet in source:
        flows.packet(packet)
    if through_a_file:
        assert reader.error is None
    flows.finish()
    return seen, flows
