"""The memory of many connections with bytes that wait is bounded, and those who hoard it do not harm the others."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from meshtls.capture.files.packet import Packet
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.tcp import Flows, Limits
from meshtls.wire.side import Side
from tests.support.packets import EPOCH, Kept, Seen, Talk, captured, ethernet, ip, tcp

MEBI = 1 << 20
CLIENT, SERVER = ("10.0.0.1", 40_000), ("10.0.0.2", 443)
PAYLOAD = 64_000


class Counting:
    """A sink that counts bytes, and keeps none."""

    def __init__(self) -> None:
        self.got = self.missing = 0

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        self.got += len(data)

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        self.missing += missing

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        pass


def ahead(flows: int, segments: int) -> Iterator[Packet]:
    """Connections of one end that sends large segments behind a hole of 100 bytes, one of each in turn."""
    number = 0

    def packet(frame: bytes) -> Packet:
        nonlocal number
        number += 1
        return Packet(number, EPOCH + number * 1000, 0, 1, frame, len(frame))

    for at in range(flows):
        yield packet(ethernet(ip(CLIENT[0], SERVER[0], tcp((CLIENT[0], 10_000 + at), SERVER, 1000, flags=2))))
    for turn in range(segments):
        seq = 1101 + turn * PAYLOAD
        frame = bytearray(ethernet(ip(CLIENT[0], SERVER[0], tcp(CLIENT, SERVER, seq, payload=bytes(PAYLOAD)))))
        for at in range(flows):
            frame[34:36] = (10_000 + at).to_bytes(2, "big")
            yield packet(bytes(frame))


def test_the_bytes_that_wait_behind_the_holes_of_many_connections_are_bounded() -> None:
    flows, segments, limits = 1000, 4, Limits(bytes=16 * MEBI)
    sinks: list[Counting] = []

    def opened(flow: Flow) -> Counting:
        sinks.append(Counting())
        return sinks[-1]

    reading = Flows(opened, limits)
    most = 0
    tracemalloc.start()
    for packet in ahead(flows, segments):
        reading.packet(packet)
        most = max(most, reading._reassembly.buffered)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 15 * MEBI < most <= limits.bytes
    # Beside them: 64 packets that were just taken, and less than 8 KiB for each connection.
    assert peak < limits.bytes + 64 * (PAYLOAD + 1000) + flows * 8192
    reading.finish()
    assert reading._reassembly.buffered == 0
    assert {(one.got, one.missing) for one in sinks} == {(segments * PAYLOAD, 100)}


def test_a_connection_whose_segments_are_reordered_is_whole_while_others_hoard() -> None:
    seen = Seen()
    reading = Flows(seen.opened, Limits(bytes=MEBI))
    last = 0
    for packet in ahead(64, 1):
        reading.packet(packet)
        last = packet.number
    talk = Talk()
    opening, first, second = talk.handshake(), talk.client(b"first "), talk.client(b"second")
    for packet in captured([*opening, second, first]):
        reading.packet(packet._replace(number=last + packet.number))
    assert seen.sinks[-1].stream(Side.CLIENT) == [b"first second"]
    assert [told(kept) for kept in seen.sinks[:3]] == [[100, PAYLOAD]] * 3  # the first ones have waited for longest
    assert told(seen.sinks[63]) == []


def told(kept: Kept) -> list[int]:
    return [len(one) if isinstance(one, bytes) else one for one in kept.stream(Side.CLIENT)]


def test_connections_that_are_open_need_little_memory() -> None:
    flows = 5000
    frames = [frame for at in range(flows) for frame in Talk(("10.0.0.1", 10_000 + at)).handshake()]
    packets = captured(frames)
    reading = Flows(lambda flow: Counting())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for packet in packets:
        reading.packet(packet)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / flows < 4096
