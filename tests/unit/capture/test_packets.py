"""TCP segments are found behind each link layer, in IPv4 and IPv6, in fragments; other packets are counted by why."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from itertools import pairwise

import pytest

from meshtls.capture.files.packet import Packet
from meshtls.capture.packets import Segments, Totals
from meshtls.wire.side import Side
from tests.support.packets import ACK, CLIENT, EPOCH, PSH, SERVER, captured, ethernet, ip, read, tcp

SIX_CLIENT, SIX_SERVER = ("2001:db8::1", 40000), ("2001:db8::2", 443)
V4 = ip(CLIENT[0], SERVER[0], tcp(CLIENT, SERVER, 100, 7, PSH | ACK, b"hello"), ident=77)
V6 = ip(SIX_CLIENT[0], SIX_SERVER[0], tcp(SIX_CLIENT, SIX_SERVER, 100, 7, PSH | ACK, b"hello"))


def packet(link_type: int, data: bytes, original: int = 0) -> Packet:
    return Packet(3, EPOCH, 0, link_type, data, original or len(data))


def payload(one: Packet) -> bytes | None:
    """The payload of the segment in it."""
    found = Segments(1 << 20).of(one)
    return None if found is None else found.data[found.begin : found.begin + found.span]


def cooked(kind: int, packet_type: int = 0) -> bytes:
    return struct.pack("!HHHQH", packet_type, 772, 6, 0, kind)


def cooked_2(kind: int) -> bytes:
    return struct.pack("!HHIHBBQ", kind, 0, 1, 772, 0, 6, 0)


@pytest.mark.parametrize(
    ("link_type", "data"),
    [
        (1, ethernet(V4)),
        (1, ethernet(V6)),
        (1, ethernet(V4) + b"frame check"),
        (1, ethernet(V4, 100)),
        (1, ethernet(V6, 100, 200)),
        (1, ethernet(V4, 100, 200, 300)),
        (0, struct.pack("<I", 2) + V4),
        (0, struct.pack(">I", 2) + V4),
        (0, struct.pack("<I", 30) + V6),
        (108, struct.pack(">I", 24) + V6),
        (101, V4),
        (101, V6),
        (12, V4),
        (228, V4),
        (229, V6),
        (113, cooked(0x0800) + V4),
        (113, cooked(0x86DD, 4) + V6),
        (113, cooked(0x8100) + struct.pack("!HH", 5, 0x0800) + V4),
        (276, cooked_2(0x0800) + V4),
        (276, cooked_2(0x86DD) + V6),
        (276, cooked_2(0x8100) + struct.pack("!HH", 5, 0x86DD) + V6),
    ],
)
def test_a_segment_is_found_behind_each_link_layer(link_type: int, data: bytes) -> None:
    segment = Segments(0).of(packet(link_type, data))
    assert segment is not None
    four = ip_address(CLIENT[0]).packed + ip_address(SERVER[0]).packed
    six = ip_address(SIX_CLIENT[0]).packed + ip_address(SIX_SERVER[0]).packed
    assert segment.key in (four + struct.pack("!HH", 40000, 443), six + struct.pack("!HH", 40000, 443))
    assert (segment.seq, segment.ack, segment.flags, segment.window) == (100, 7, PSH | ACK, 64_000)
    assert (segment.span, segment.time_ns, segment.number) == (5, EPOCH, 3)
    assert segment.data[segment.begin : segment.begin + 5] == b"hello"
    assert segment.identification == (77 if len(segment.key) == 12 else 0)


def v4_with(options: bytes) -> bytes:
    size = 20 + len(options)
    return (
        bytes([0x40 | size // 4]) + V4[1:2] + struct.pack("!H", len(V4) + len(options)) + V4[4:20] + options + V4[20:]
    )


def v6_with(*headers: tuple[int, bytes]) -> bytes:
    """Extension headers in this order, and then TCP."""
    kinds = [*(kind for kind, _ in headers), 6]
    body = b"".join(bytes([kinds[at + 1]]) + content for at, (_, content) in enumerate(headers)) + V6[40:]
    return V6[:4] + struct.pack("!H", len(body)) + bytes([kinds[0]]) + V6[7:40] + body


@pytest.mark.parametrize(
    "data",
    [
        v4_with(b"\1" * 4),
        v4_with(b"\x94\4\0\0" + b"\1" * 36),
        v6_with((0, b"\0" + bytes(6))),
        v6_with((0, b"\1" + bytes(14)), (43, b"\0" + bytes(6)), (60, b"\0" + bytes(6))),
        v6_with((51, b"\4" + bytes(22))),
        v6_with((44, b"\0\0\0" + b"\0\0\0\7")),
        V4[:2] + b"\0\0" + V4[4:],
        V6[:4] + b"\0\0" + V6[6:],
    ],
    ids=[
        "an option",
        "40 bytes of options",
        "hop by hop",
        "three headers",
        "authentication",
        "a fragment that is whole",
        "length 0 of IPv4",
        "length 0 of IPv6",
    ],
)
def test_a_segment_is_found_behind_options_and_extension_headers(data: bytes) -> None:
    assert payload(packet(101, data)) == b"hello"


def test_tcp_options_are_no_payload() -> None:
    segment = tcp(CLIENT, SERVER, 1, 1, ACK, b"hello", options=b"\1\1\x08\n" + bytes(8))
    assert payload(packet(101, ip(CLIENT[0], SERVER[0], segment))) == b"hello"


def test_bytes_after_the_ip_packet_are_no_payload() -> None:
    bare = ethernet(ip(CLIENT[0], SERVER[0], tcp(CLIENT, SERVER, 1, 1)))
    assert payload(packet(1, bare + b"pad" * 2)) == b""


def udp(source: str, destination: str) -> bytes:
    return ip(source, destination, bytes(8), protocol=17)


@pytest.mark.parametrize(
    ("one", "counted"),
    [
        (packet(1, ethernet(V4)[:12] + b"\x08\x06" + bytes(28)), Totals(not_ip=1)),
        (packet(1, b""), Totals(not_ip=1)),
        (packet(1, ethernet(V4, 1)[:14]), Totals(not_ip=1)),
        (packet(1, bytes(12) + b"\x81\0\0\1" * 100), Totals(not_ip=1)),
        (packet(101, b""), Totals(not_ip=1)),
        (packet(101, b"\x50" + V4[1:]), Totals(not_ip=1)),
        (packet(113, cooked(4) + V4), Totals(not_ip=1)),
        (packet(0, b"\7\0\0\0" + V4), Totals(not_ip=1)),
        (packet(101, udp(CLIENT[0], SERVER[0])), Totals(not_tcp=1)),
        (packet(101, udp(SIX_CLIENT[0], SIX_SERVER[0])), Totals(not_tcp=1)),
        (packet(228, V6), Totals(malformed=1)),
        (packet(229, V4 + bytes(20)), Totals(malformed=1)),
        (packet(101, V4[:19]), Totals(malformed=1)),
        (packet(101, V4[:39]), Totals(malformed=1)),
        (packet(101, V6[:39]), Totals(malformed=1)),
        (packet(101, b"\x44" + V4[1:]), Totals(malformed=1)),
        (packet(101, V4[:2] + b"\0\x10" + V4[4:]), Totals(malformed=1)),
        (packet(101, V4[:2] + b"\0\x27" + V4[4:]), Totals(malformed=1)),
        (packet(101, V4[:32] + b"\x40" + V4[33:]), Totals(malformed=1)),
        (packet(101, V4[:32] + b"\xf0" + V4[33:]), Totals(malformed=1)),
        (packet(101, v6_with((0, b"\xff" + bytes(6)))), Totals(malformed=1)),
        (packet(101, v6_with((60, b"\0" + bytes(6)))[:44]), Totals(malformed=1)),
        (packet(147, V4), Totals(unknown_link_types={147: 1})),
    ],
)
def test_a_packet_without_a_segment_is_counted_by_why(one: Packet, counted: Totals) -> None:
    segments = Segments(0)
    assert segments.of(one) is None
    assert segments.totals == counted
    twin = Segments(0)
    assert twin.of(packet(101, V4)) is not None
    assert twin.totals == Totals()


def test_link_types_that_are_counted_are_bounded() -> None:
    segments = Segments(0)
    for link_type in (*range(1000, 1100), 1000):
        segments.of(packet(link_type, V4))
    assert len(segments.totals.unknown_link_types) == 64
    assert segments.totals.unknown_link_types[1000] == 2


# -- fragments --


def v4_fragments(segment: bytes, *cuts: int, ident: int = 9) -> list[bytes]:
    bounds = [0, *cuts, len(segment)]
    return [
        ip(
            CLIENT[0],
            SERVER[0],
            segment[begin:end],
            ident=ident,
            fragment=begin // 8 | (0x2000 if end < len(segment) else 0),
        )
        for begin, end in pairwise(bounds)
    ]


def v6_fragments(segment: bytes, *cuts: int) -> list[bytes]:
    bounds = [0, *cuts, len(segment)]
    return [
        ip(
            SIX_CLIENT[0],
            SIX_SERVER[0],
            struct.pack("!BBHI", 6, 0, begin | (end < len(segment)), 0x1234567) + segment[begin:end],
            protocol=44,
        )
        for begin, end in pairwise(bounds)
    ]


SEGMENT = tcp(CLIENT, SERVER, 100, 7, ACK, bytes(range(100)))
FOUR = v4_fragments(SEGMENT, 16, 64)
SIX = v6_fragments(tcp(SIX_CLIENT, SIX_SERVER, 100, 7, ACK, bytes(range(100))), 8, 64)


@pytest.mark.parametrize(
    "fragments", [FOUR, FOUR[::-1], [FOUR[1], *FOUR], SIX, SIX[::-1], [SIX[0], SIX[0], SIX[2], SIX[1]]]
)
def test_fragments_in_any_order_and_twice_are_one_segment(fragments: list[bytes]) -> None:
    segments = Segments(1 << 20)
    found = [segments.of(one) for one in captured(fragments, link_type=101)]
    assert [one is not None for one in found] == [False] * (len(fragments) - 1) + [True]
    last = found[-1]
    assert last is not None
    assert last.data[last.begin : last.begin + last.span] == bytes(range(100))
    assert last.number == len(fragments)
    assert last.identification == (9 if len(last.key) == 12 else 0)
    assert segments.totals == Totals()
    assert (segments.fragments.whole, segments.fragments.dropped) == (1, 0)
    assert repr(segments.fragments) == "<Fragments [0 packets, 0 bytes]>"


@pytest.mark.parametrize("link_type", [1, 101])
@pytest.mark.parametrize("cuts", [(), (16, 64), (8,)])
@pytest.mark.parametrize("twice", [0, 1])
def test_all_fragments_of_a_packet_count_as_bytes_on_the_wire(
    link_type: int, cuts: tuple[int, ...], twice: int
) -> None:
    first = [ip(CLIENT[0], SERVER[0], tcp(CLIENT, SERVER, 0, 7, ACK, bytes(100)), ident=8)]
    packets = [*first, *v4_fragments(SEGMENT, *cuts)[:1] * (twice if cuts else 0), *v4_fragments(SEGMENT, *cuts)]
    frames = [ethernet(one) for one in packets] if link_type == 1 else packets
    seen, _ = read(captured(frames, link_type=link_type))
    half = seen.flows[0].client
    assert half.wire_bytes == sum(map(len, frames))
    # In fragments or not, it is one packet of TCP.
    assert (half.packets, half.bytes) == (2, 200)


def overlapping(segment: bytes) -> list[bytes]:
    first, second, third = v4_fragments(segment, 16, 64)
    [_, longer] = v4_fragments(segment[:72] + b"other" * 10, 56)
    return [first, longer, second, third]


@pytest.mark.parametrize(
    "fragments",
    [
        FOUR[:2],
        FOUR[1:],
        overlapping(SEGMENT),
        [FOUR[0], FOUR[2], v4_fragments(SEGMENT, 16, 72)[1]],
        [FOUR[0], v4_fragments(bytes(120), 16, 64)[0], *FOUR[1:]],
        [ip(CLIENT[0], SERVER[0], bytes(12), ident=9, fragment=0x2000), *FOUR[1:]],
        [ip(CLIENT[0], SERVER[0], bytes(80), ident=9, fragment=8190), *FOUR[:2]],
        [FOUR[0], *v4_fragments(SEGMENT, 16, 64, ident=10)[1:]],
        [FOUR[0], FOUR[1][:-1], FOUR[2]],
    ],
    ids=[
        "the last missing",
        "the first missing",
        "overlapping",
        "overlapping so that the length is right",
        "the same place, other bytes",
        "a length that is no multiple of 8",
        "longer than a packet",
        "of another packet",
        "cut by the snapshot length",
    ],
)
def test_fragments_that_are_no_packet_give_none(fragments: list[bytes]) -> None:
    segments = Segments(1 << 20)
    packets = [packet(101, one, len(one) + 1 if one == FOUR[1][:-1] else 0) for one in fragments]
    assert [segments.of(one) for one in packets] == [None] * len(fragments)
    assert segments.fragments.whole == 0


def test_fragments_that_come_too_late_are_of_another_packet() -> None:
    for seconds, whole in ((59, True), (61, False)):
        segments = Segments(1 << 20)
        early = [packet(101, one) for one in FOUR[:2]]
        late = packet(101, FOUR[2])._replace(time_ns=EPOCH + seconds * 1_000_000_000)
        assert [segments.of(one) is not None for one in (*early, late)] == [False, False, whole]


def test_memory_for_fragments_is_bounded_and_the_oldest_are_dropped() -> None:
    segments = Segments(100_000)
    for ident in range(1, 1000):
        segments.of(packet(101, v4_fragments(bytes(2000), 1000, ident=ident)[0]))
    assert segments.fragments.dropped > 800
    assert "bytes]" in repr(segments.fragments)
    assert int(repr(segments.fragments).split()[-2]) <= 100_000
    # The newest is still there, the oldest is not.
    newest = v4_fragments(SEGMENT, 16, ident=2000)
    assert segments.of(packet(101, newest[0])) is None
    assert segments.of(packet(101, newest[1])) is not None


def test_fragments_of_other_protocols_take_no_memory() -> None:
    segments = Segments(1 << 20)
    segments.of(packet(101, ip(CLIENT[0], SERVER[0], bytes(64), ident=1, fragment=0x2000, protocol=17)))
    assert segments.totals == Totals(not_tcp=1)
    assert repr(segments.fragments) == "<Fragments [0 packets, 0 bytes]>"


@pytest.mark.parametrize("link_type", [1, 101])
def test_the_path_of_most_packets_and_the_general_one_tell_the_same(link_type: int) -> None:
    frames = [
        tcp(CLIENT, SERVER, 100 + at * 10, 1 + at, ACK, bytes([at]) * 10, options=bytes(4 * (at % 3)))
        for at in range(30)
    ]
    packets = [ip(CLIENT[0], SERVER[0], one, ident=at + 1) for at, one in enumerate(frames)]
    if link_type == 1:
        packets = [ethernet(one) for one in packets]
    seen, _ = read(captured(packets, link_type=link_type))
    assert seen.sinks[0].stream(Side.CLIENT) == [b"".join(bytes([at]) * 10 for at in range(30))]
    assert (seen.flows[0].client.packets, seen.flows[0].client.bytes) == (30, 300)
