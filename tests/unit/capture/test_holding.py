"""Bytes that the capture lost, and the bytes of the other side that wait with what is behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from meshtls.capture.files.packet import Packet
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.reassembly import GRACE_PACKETS
from meshtls.capture.tcp import Flows, Limits
from meshtls.wire.side import Side
from tests.support.packets import ACK, EPOCH, FIN, MS, RST, SYN, Talk, captured

C, S = Side.CLIENT, Side.SERVER
#: Bytes that a side sent, and the number of the packet that they are told with.
Data = tuple[Side, bytes, int]
#: Bytes that a side sent and that were lost.
Gap = tuple[Side, int]
#: How a side ended.
Ended = tuple[Side, Ending]


@dataclass
class Told:
    """A sink that keeps what it is told. Packets are captured one each millisecond, so that times tell numbers."""

    events: list[Data | Gap | Ended] = field(default_factory=list)

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        """Part of ``FlowSink``."""
        assert time_ns == EPOCH + packet * MS
        self.events.append((side, data, packet))

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self.events.append((side, missing))

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self.events.append((side, how))


@dataclass
class Reading:
    """One connection that is read."""

    limits: Limits | None = None
    told: Told = field(default_factory=Told)
    opened: list[Flow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flows = Flows(self._open, self.limits)

    def _open(self, flow: Flow) -> Told:
        self.opened.append(flow)
        return self.told

    def take(self, packets: Sequence[Packet]) -> list[Data | Gap | Ended]:
        """What is told when these have come."""
        for packet in packets:
            self.flows.packet(packet)
        return self.told.events

    @property
    def buffered(self) -> int:
        """Bytes of memory of what waits."""
        return self.flows._reassembly.buffered


def after_handshake() -> tuple[Talk, list[bytes]]:
    talk = Talk()
    return talk, talk.handshake()


def test_an_answer_to_lost_bytes_comes_after_what_is_behind_them() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(b"ask"), talk.server(b"answer"), talk.client(b"more"), talk.server(b"again")]
    reading = Reading()
    assert reading.take(captured(frames)) == []
    reading.flows.finish()
    assert reading.told.events == [
        (C, 4),
        (C, b"ask", 4),
        (S, b"answer", 5),
        (C, b"more", 6),
        (S, b"again", 7),
        (C, Ending.CAPTURE_END),
        (S, Ending.CAPTURE_END),
    ]
    assert reading.buffered == 0


def test_bytes_that_do_not_acknowledge_those_that_are_missing_are_told_at_once() -> None:
    talk, frames = after_handshake()
    talk.client(b"late")
    frames += [talk.client(b"ask"), talk.send(S, b"banner", ack=1001), talk.send(S, b"more", ack=1001)]
    reading = Reading()
    assert reading.take(captured(frames)) == [(S, b"banner", 5), (S, b"more", 6)]


def lost_then(count: int) -> list[bytes]:
    """A hole that the server acknowledges in the fifth packet, which is the first of ``count`` of the server."""
    talk, frames = after_handshake()
    talk.client(b"lost")
    return [*frames, talk.client(b"ask"), *[talk.server(b"%02d" % at) for at in range(count)]]


def test_a_hole_is_given_up_sixteen_packets_after_it_was_acknowledged_and_then_nothing_waits() -> None:
    reading = Reading()
    packets = captured(lost_then(GRACE_PACKETS + 2))
    assert reading.take(packets[:-2]) == []
    waited = [(C, 4), (C, b"ask", 4), *[(S, b"%02d" % at, 5 + at) for at in range(GRACE_PACKETS + 1)]]
    assert reading.take(packets[-2:-1]) == waited
    assert reading.buffered == 0
    assert reading.take(packets[-1:]) == [*waited, (S, b"17", 22)]
    [flow] = reading.opened
    assert (flow.client.expect, flow.server.expect) == (flow.client.next, flow.server.next)


def test_a_hole_is_given_up_by_time_where_no_packets_come() -> None:
    reading = Reading()
    packets = captured(lost_then(2))
    reading.take(packets)
    reading.flows.tick(packets[-1].time_ns + 500 * MS)
    assert reading.told.events == []
    reading.flows.tick(packets[-1].time_ns + 1500 * MS)
    assert reading.told.events == [(C, 4), (C, b"ask", 4), (S, b"00", 5), (S, b"01", 6)]
    assert reading.buffered == 0


def test_a_hole_that_is_filled_is_told_with_the_packet_that_filled_it() -> None:
    talk, frames = after_handshake()
    late = talk.client(b"late ")
    frames += [talk.client(b"ask"), talk.server(b"answer"), late, talk.server(b"more")]
    assert Reading().take(captured(frames)) == [
        (S, b"answer", 5),
        (C, b"late ", 6),
        (C, b"ask", 6),
        (S, b"more", 7),
    ]


def test_several_holes_of_one_side_are_given_up_together() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames.append(talk.client(b"1"))
    frames.append(talk.server(b"a"))
    talk.client(b"lost too")
    frames.append(talk.client(b"2"))
    frames += [talk.server(b"%02d" % at) for at in range(GRACE_PACKETS)]
    told = Reading().take(captured(frames))
    assert told[:6] == [(C, 4), (C, b"1", 4), (S, b"a", 5), (C, 8), (C, b"2", 6), (S, b"00", 7)]
    assert told[6:] == [(S, b"%02d" % at, 7 + at) for at in range(1, GRACE_PACKETS)]


def test_a_hole_that_is_not_acknowledged_goes_on_waiting_behind_one_that_is() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames.append(talk.client(b"1"))
    acknowledged = talk.next[C]
    late = talk.client(b"late")
    frames.append(talk.client(b"2"))
    answers = [talk.send(S, b"%02d" % at, seq=5001 + 2 * at, ack=acknowledged) for at in range(GRACE_PACKETS + 2)]
    told = Reading().take(captured([*frames, *answers, late]))
    assert told[:3] == [(C, 4), (C, b"1", 4), (S, b"00", 6)]
    assert told[-4:] == [(S, b"16", 22), (S, b"17", 23), (C, b"late", 24), (C, b"2", 24)]


def test_a_second_hole_is_waited_for_as_long_as_the_first() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(b"1"), *[talk.server(b"a") for _ in range(GRACE_PACKETS + 1)]]
    late = talk.client(b"late")
    frames += [talk.client(b"2"), *[talk.server(b"b") for _ in range(GRACE_PACKETS - 2)], late]
    reading = Reading()
    told = reading.take(captured(frames))
    assert [event for event in told if len(event) == 2] == [(C, 4)]
    assert told[-2:] == [(C, b"late", len(frames)), (C, b"2", len(frames))]


def test_holes_of_both_sides_are_given_up_when_both_were_waited_for() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(b"1"), talk.server(b"a")]
    talk.server(b"lost too")
    frames += [talk.server(b"b"), talk.client(b"2")]
    frames += [talk.server(b"%02d" % at) for at in range(GRACE_PACKETS)]
    reading = Reading()
    assert reading.take(captured(frames)[:-1]) == []
    told = reading.take(captured(frames)[-1:])
    assert told[:6] == [(C, 4), (C, b"1", 4), (S, b"a", 5), (S, 8), (S, b"b", 6), (C, b"2", 7)]
    assert told[6:] == [(S, b"%02d" % at, 8 + at) for at in range(GRACE_PACKETS)]


def test_bytes_that_waited_before_others_were_told_come_with_the_last_packet_that_was_told() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(b"ask"), talk.send(S, b"banner", ack=1001)]
    frames.append(talk.server(b"answer"))
    reading = Reading()
    reading.take(captured(frames))
    reading.flows.finish()
    assert reading.told.events[:4] == [(S, b"banner", 5), (C, 4), (C, b"ask", 5), (S, b"answer", 6)]


def closing_first(side: Side) -> list[bytes]:
    """Both sides close while bytes of the client are missing, ``side`` first."""
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(b"ask"), talk.server(b"answer")]
    frames += [talk.send(side, flags=FIN | ACK), talk.send(side.other, flags=FIN | ACK), talk.send(side)]
    return frames


@pytest.mark.parametrize("side", list(Side))
def test_sides_that_close_while_bytes_wait_end_in_the_order_of_the_capture(side: Side) -> None:
    reading = Reading()
    packets = captured(closing_first(side))
    assert reading.take(packets) == []
    reading.flows.tick(packets[-1].time_ns + 1500 * MS)
    assert reading.told.events == [
        (C, 4),
        (C, b"ask", 4),
        (S, b"answer", 5),
        (side, Ending.FIN),
        (side.other, Ending.FIN),
    ]
    assert reading.opened[0].closed


def test_bytes_of_a_side_that_goes_on_come_after_the_fin_of_the_other() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(flags=FIN | ACK), *[talk.server(b"%02d" % at) for at in range(GRACE_PACKETS + 1)]]
    assert Reading().take(captured(frames))[:3] == [(C, 4), (C, Ending.FIN), (S, b"00", 5)]


def test_a_reset_while_bytes_wait_ends_both_sides_after_them() -> None:
    talk, frames = after_handshake()
    talk.client(b"lost")
    frames += [talk.client(b"ask"), talk.server(b"answer"), talk.server(b" and more")]
    frames.append(talk.send(S, flags=RST, seq=5001 + len(b"answer")))
    reading = Reading()
    assert reading.take(captured(frames)) == []
    reading.flows.finish()
    assert reading.told.events == [
        (C, 4),
        (C, b"ask", 4),
        (S, b"answer", 5),
        (S, b" and more", 6),
        (S, Ending.RESET),
        (C, Ending.PEER_RESET),
    ]


def test_an_end_that_the_receiver_contradicts_does_not_make_the_other_side_wait() -> None:
    talk, frames = after_handshake()
    frames.append(talk.client(flags=FIN | ACK, seq=1201))
    talk.next[C] += 1000
    frames.append(talk.server(b"answer"))
    reading = Reading()
    assert reading.take(captured(frames)) == [(S, b"answer", 5)]
    assert reading.opened[0].client.strange == 1


@pytest.mark.parametrize("lost", [b"", b"lost"])
def test_packets_are_counted_the_same_while_bytes_wait(lost: bytes) -> None:
    talk, frames = after_handshake()
    if lost:
        talk.client(lost)
    frames += [talk.client(b"ask"), talk.server(b"answer"), talk.server(seq=5007), talk.server(seq=5007)]
    frames += [talk.server(seq=5006), talk.server(b"\0", seq=5006), talk.server(b"answer", seq=5001)]
    reading = Reading()
    reading.take(captured(frames))
    server = reading.opened[0].server
    assert (server.duplicate_acks, server.keep_alives, server.retransmitted, server.conflicts) == (2, 2, 1, 0)
    assert bool(lost) is (reading.told.events == [])


@pytest.mark.parametrize("lost", [b"", b"lost"])
def test_a_fin_within_bytes_that_came_in_order_is_strange_while_they_wait_too(lost: bytes) -> None:
    talk, frames = after_handshake()
    if lost:
        talk.client(lost)
    frames += [talk.client(b"ask"), talk.server(b"answer"), talk.send(S, flags=FIN | ACK, seq=5003), talk.server(b"!")]
    reading = Reading()
    reading.take(captured(frames))
    reading.flows.finish()
    assert reading.opened[0].server.strange == 1
    assert [event for event in reading.told.events if event[0] is S] == [
        (S, b"answer", 5),
        (S, b"!", 7),
        (S, Ending.CAPTURE_END),
    ]


@pytest.mark.parametrize("lost", [b"", b"lost"])
def test_after_a_reset_a_syn_begins_a_new_connection_while_bytes_wait_too(lost: bytes) -> None:
    talk, frames = after_handshake()
    if lost:
        talk.client(lost)
    frames += [talk.client(b"ask"), talk.server(b"answer"), talk.server(flags=RST), talk.client(flags=SYN, seq=90_000)]
    reading = Reading()
    reading.take(captured(frames))
    assert reading.told.events == [
        *([(C, 4)] if lost else []),
        (C, b"ask", 4),
        (S, b"answer", 5),
        (S, Ending.RESET),
        (C, Ending.PEER_RESET),
    ]


@pytest.mark.parametrize("ended", [True, False])
def test_no_bytes_are_missing_of_a_side_that_has_ended(ended: bool) -> None:
    """The server acknowledges more than the client has sent before a RST."""
    talk, frames = after_handshake()
    frames.append(talk.client(flags=FIN | ACK) if ended else talk.client())
    frames += [talk.client(flags=RST, seq=1500), talk.send(S, ack=1300)]
    reading = Reading()
    reading.take(captured(frames))
    reading.flows.finish()
    lost: list[Data | Gap | Ended] = [(C, 499), (C, Ending.RESET)]
    assert reading.told.events == [*([(C, Ending.FIN)] if ended else lost), (S, Ending.PEER_RESET)]


@pytest.mark.parametrize("ended", [True, False])
def test_bytes_after_an_end_do_not_make_the_other_side_wait(ended: bool) -> None:
    """The server acknowledges the FIN, or else a byte that is missing."""
    talk, frames = after_handshake()
    frames.append(talk.client(b"odd", seq=1011))
    if ended:
        frames.append(talk.client(flags=FIN | ACK, seq=1001))
    frames.append(talk.send(S, b"answer", ack=1002))
    assert Reading().take(captured(frames)) == ([(S, b"answer", 6)] if ended else [])


# -- bounds --

MEBI = 1 << 20


def hoarding(client: tuple[str, int], segments: int, size: int) -> list[bytes]:
    """A server whose large segments wait for a few bytes that its client sent."""
    talk = Talk(client)
    frames = talk.handshake()
    talk.client(b"lost")
    return [*frames, talk.client(b"ask"), *[talk.server(bytes(size)) for _ in range(segments)]]


def test_bytes_that_wait_for_the_other_side_are_bounded_for_each_direction() -> None:
    reading = Reading(Limits(half_bytes=10_000))
    packets = captured(hoarding(("10.0.0.1", 40_000), 12, 1000))
    most = 0
    for packet in packets:
        reading.take([packet])
        most = max(most, reading.buffered)
    # The ninth segment is one too many.
    assert 9_000 < most <= 10_000 + 200
    assert reading.told.events == [(C, 4), (C, b"ask", 4), *[(S, bytes(1000), 5 + at) for at in range(12)]]
    assert reading.buffered == 0


def numbered(frames: Sequence[bytes], start: int) -> list[Packet]:
    return [packet._replace(number=start + at) for at, packet in enumerate(captured(frames))]


def test_bytes_that_wait_for_the_other_side_are_bounded_in_all_and_the_connection_that_waits_longest_gives_up() -> None:
    """Connections that wait do not take the place of one that is merely reordered."""
    told: list[list[int]] = []

    @dataclass
    class Sizes:
        sizes: list[int] = field(default_factory=list)

        def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
            self.sizes.append(len(data))

        def gap(self, side: Side, missing: int, time_ns: int) -> None:
            self.sizes.append(missing)

        def ended(self, side: Side, how: Ending, time_ns: int) -> None:
            pass

    def opened(_flow: Flow) -> Sizes:
        sink = Sizes()
        told.append(sink.sizes)
        return sink

    flows = Flows(opened, Limits(bytes=MEBI))
    packets = [
        packet for at in range(40) for packet in numbered(hoarding(("10.0.0.1", 10_000 + at), 3, 16_000), 1 + at * 10)
    ]
    most = 0
    for packet in packets:
        flows.packet(packet)
        most = max(most, flows._reassembly.buffered)
    assert MEBI - 20_000 < most <= MEBI
    assert told[:3] == [[4, 3, 16_000, 16_000, 16_000]] * 3
    assert told[-3:] == [[]] * 3
    flows.finish()
    assert told == [[4, 3, 16_000, 16_000, 16_000]] * 40
    assert flows._reassembly.buffered == 0


def one_way(talk: Talk) -> list[bytes]:
    frames = [talk.client(b"first")]
    talk.client(b"lost")
    return [*frames, *[talk.client(b"%02d" % at) for at in range(30)]]


def both_ways(talk: Talk) -> list[bytes]:
    *frames, last = one_way(talk)
    return [*frames, talk.server(), *[talk.client(b"x") for _ in range(GRACE_PACKETS)], last]


@pytest.mark.parametrize(("make", "given_up"), [(one_way, False), (both_ways, True)])
def test_where_one_side_alone_is_captured_no_acknowledgement_tells_of_a_hole(
    make: Callable[[Talk], list[bytes]], given_up: bool
) -> None:
    talk, frames = after_handshake()
    opening = [frames[0], frames[2]] if make is one_way else frames
    told = Reading().take(captured([*opening, *make(talk)]))
    assert ((C, 4) in told) is given_up
