"""Fuzz targets for capture files and for the packets in them."""

from __future__ import annotations

import gzip
import io
from collections import Counter

from hypothesis import strategies as st

from meshtls.capture.files.packet import MAX_PACKET, Packet
from meshtls.capture.files.reading import read_packets
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.links import LINK_TYPES
from meshtls.capture.tcp import Flows, Limits
from meshtls.wire.side import Side
from tests.fuzz.running import documented, fuzzed, spliced
from tests.support.packets import EPOCH, FIN, RST, SYN, Talk, captured, pcap
from tests.unit.capture.files.blocks import Blocks
from tests.unit.capture.test_packets import FOUR, SIX, V4, V6, cooked, v4_with, v6_with


def _pcapng() -> bytes:
    stream = io.BytesIO()
    writer = PcapngWriter(stream, comment="a file")
    writer.secrets(b"CLIENT_RANDOM a b\n")
    writer.interface(1, "eth0")
    for at, frame in enumerate(Talk().handshake()):
        writer.packet(0, EPOCH + at, frame, comment="a packet" if at else "")
    writer.statistics(0, EPOCH, received=3, dropped=0)
    return stream.getvalue()


BIG = Blocks(">")
OTHER_ORDER = (
    BIG.section() + BIG.interface(101, 100, (9, b"\x89")) + BIG.simple(V4) + BIG.obsolete(V6) + BIG.enhanced(V4)
)
PLAIN = pcap(captured(Talk().handshake()))
FILES = (
    PLAIN,
    pcap(captured([V4, V6]), order=">", nano=False, link_type=101),
    _pcapng(),
    OTHER_ORDER,
    gzip.compress(PLAIN),
)


class Counted:
    """A sink that checks what it is told: nothing after the end, and each end once."""

    def __init__(self) -> None:
        self.told: Counter[Side] = Counter()
        self.ended_sides: set[Side] = set()

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        assert side not in self.ended_sides
        assert data
        self.told[side] += len(data)

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        assert side not in self.ended_sides
        assert missing > 0

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        assert side not in self.ended_sides
        self.ended_sides.add(side)


def followed(packets: list[Packet], limits: Limits | None = None) -> None:
    """Take the packets, and check what is counted."""
    sinks: list[tuple[Flow, Counted]] = []

    def opened(flow: Flow) -> Counted:
        sinks.append((flow, Counted()))
        return sinks[-1][1]

    flows = Flows(opened, limits)
    for packet in packets:
        flows.packet(packet)
        assert flows._reassembly.buffered >= 0
    flows.finish()
    assert repr(flows) == "<Flows [0 connections, 0 bytes wait]>"
    for flow, sink in sinks:
        assert sink.ended_sides == set(Side)
        for half in flow.halves:
            assert half.bytes == sink.told[half.side] + half.cut_bytes
            assert half.ending is not None
    assert sum(sum(sink.told.values()) for _, sink in sinks) <= sum(len(packet.data) for packet in packets)


def test_a_capture_file() -> None:
    def target(data: bytes) -> None:
        reader = read_packets(io.BytesIO(data))
        packets = documented(lambda: list(reader), size=len(data))
        assert packets is not None
        assert sum(len(packet.data) for packet in packets) <= max(len(data), 2000 * len(data) * (data[:1] == b"\x1f"))
        for number, packet in enumerate(packets, 1):
            assert packet.number == number
            assert len(packet.data) <= MAX_PACKET
            assert reader.interfaces[packet.interface].link_type == packet.link_type
            assert 0 <= packet.time_ns < 2**68
        if reader.error is not None:
            assert reader.error.offset >= 0
            assert reader.error.reason
        followed(packets)
        again = read_packets(io.BytesIO(data))
        assert (list(again), again.error) == (packets, reader.error)

    fuzzed(target, spliced(FILES) | st.binary(max_size=200))


def test_packets_of_any_link_type() -> None:
    packets = (*FOUR, *SIX, V4, V6, v4_with(b"\1" * 8), v6_with((0, b"\0" + bytes(6)), (60, b"\1" + bytes(14))))
    samples = [*packets, *(b"\2\0\0\0" + one for one in packets), *(cooked(0x0800) + one for one in packets)]
    samples += Talk().handshake()

    def target(datas: list[bytes], link_type: int) -> None:
        documented(
            lambda: followed(captured(datas, link_type=link_type), Limits(fragment_bytes=3000)),
            size=sum(map(len, datas)),
            calls=100_000,
        )

    fuzzed(target, st.lists(spliced(samples), max_size=8), st.sampled_from([*LINK_TYPES, 147]))


FLAGS = st.sampled_from((0, SYN, FIN, RST, 16, SYN | 16, FIN | 16, RST | 16, 63))
#: Numbers of which few are far from each other, and a few are far.
NUMBERS = st.integers(-4, 60) | st.sampled_from((1 << 26, 1 << 30, 1 << 31, (1 << 32) - 1))
SEGMENTS = st.tuples(st.booleans(), NUMBERS, NUMBERS, FLAGS, st.integers(0, 20), st.integers(0, 20), st.integers(0, 1))


def test_segments_of_one_connection() -> None:
    def target(segments: list[tuple[bool, int, int, int, int, int, int]], base: int, small: bool) -> None:
        packets = []
        for at, (client, seq, ack, flags, size, cut, window) in enumerate(segments):
            talk = Talk(ident=at)
            talk.next[Side.CLIENT if client else Side.SERVER] = (base + seq) % 2**32
            talk.next[Side.SERVER if client else Side.CLIENT] = (base + ack) % 2**32
            frame = talk.send(
                Side.CLIENT if client else Side.SERVER, bytes(range(size)), flags | 16 * bool(ack), window=window
            )
            [packet] = captured([frame[: max(54, len(frame) - cut)]])
            packets.append(packet._replace(number=at + 1, time_ns=EPOCH + at * 1_000_000, original_length=len(frame)))
        limits = Limits(half_bytes=600, bytes=800, flows=2) if small else None
        documented(lambda: followed(packets, limits), size=54 * len(packets), calls=50_000)

    fuzzed(target, st.lists(SEGMENTS, max_size=40), st.integers(0, 2**32 - 1), st.booleans())
