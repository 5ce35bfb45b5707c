"""What is told of a TCP connection: its bytes in order, what is missing, what was counted, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from meshtls.capture.flow import Ending
from meshtls.capture.tcp import Flows, Limits
from meshtls.wire.side import Side
from tests.support.packets import (
    ACK,
    CLIENT,
    FIN,
    MS,
    RST,
    SERVER,
    SYN,
    Seen,
    Talk,
    captured,
    ethernet,
    ip,
    read,
    tcp,
)

C, S = Side.CLIENT, Side.SERVER
CLOSED = {C: Ending.FIN, S: Ending.FIN}
OPEN = {C: Ending.CAPTURE_END, S: Ending.CAPTURE_END}


def test_bytes_in_order_are_delivered_in_order_and_both_ends_close() -> None:
    talk = Talk()
    frames = [
        *talk.handshake(),
        talk.client(b"GET /"),
        talk.client(b" HTTP/1.1"),
        talk.server(b"200"),
        talk.client(),
        *talk.close(),
    ]
    seen, flows = read(captured(frames))

    [flow], [kept] = seen.flows, seen.sinks
    assert kept.events == [
        ("data", C, b"GET / HTTP/1.1"),
        ("data", S, b"200"),
        ("ended", C, Ending.FIN),
        ("ended", S, Ending.FIN),
    ]
    assert kept.numbers == [4, 5, 6]
    assert (str(flow.client.address), str(flow.server.address)) == ("10.0.0.1:40000", "10.0.0.2:443")
    assert (flow.client.packets, flow.client.bytes, flow.server.packets, flow.server.bytes) == (7, 14, 3, 3)
    assert flow.from_start
    assert flow.syn_ns is not None
    assert flow.syn_ack_ns == flow.syn_ns + 1_000_000
    assert flow.established_ns == flow.syn_ns + 2_000_000
    assert (flow.first_ns, flow.last_ns) == (flow.syn_ns, flow.syn_ns + 9_000_000)
    assert flows.totals.without_flow == 0
    assert repr(flow) == "<Flow 0 10.0.0.1:40000 -> 10.0.0.2:443 [closed, 10 packets]>"
    assert repr(flow.client) == "<Half client 10.0.0.1:40000 [7 packets, 14 bytes]>"


@dataclass
class Case:
    """Frames after a handshake, and what is told of them.

    ``counted`` are the counters that are not 0, but packets and bytes, by side.
    """

    frames: list[bytes]
    client: list[bytes | int] = field(default_factory=list)
    server: list[bytes | int] = field(default_factory=list)
    counted: dict[Side, dict[str, int]] = field(default_factory=dict)
    endings: dict[Side, Ending] = field(default_factory=lambda: OPEN)
    every_ns: int = MS


COUNTERS = (
    "retransmitted",
    "retransmitted_bytes",
    "out_of_order",
    "duplicated",
    "lost_bytes",
    "cut_bytes",
    "conflicts",
    "keep_alives",
    "zero_windows",
    "duplicate_acks",
    "strange",
)


def retransmission() -> Case:
    talk = Talk()
    frames = [*talk.handshake(), talk.client(b"once"), talk.client(b"once", seq=1001), talk.server(b"ok")]
    return Case(frames, [b"once"], [b"ok"], {C: {"retransmitted": 1, "retransmitted_bytes": 4}})


def retransmission_with_more() -> Case:
    talk = Talk()
    frames = [
        *talk.handshake(),
        talk.client(b"once"),
        talk.client(b"nce and more", seq=1002),
        talk.client(b"!", seq=1014),
    ]
    return Case(frames, [b"once and more!"], [], {C: {"retransmitted": 1, "retransmitted_bytes": 3}})


def retransmission_with_other_bytes() -> Case:
    talk = Talk()
    frames = [*talk.handshake(), talk.client(b"first wins"), talk.client(b"first LOSES", seq=1001)]
    counted = {"retransmitted": 1, "retransmitted_bytes": 10, "conflicts": 1}
    return Case(frames, [b"first winsS"], [], {C: counted})


def handshake_first(*frames: bytes) -> list[bytes]:
    return [*Talk().handshake(), *frames]


def sent_after_handshake() -> Talk:
    talk = Talk()
    talk.handshake()
    return talk


def reordered() -> Case:
    talk = sent_after_handshake()
    one, two, three = talk.client(b"one"), talk.client(b"two"), talk.client(b"three")
    return Case(handshake_first(two, three, one), [b"onetwothree"], [], {C: {"out_of_order": 1}})


def sent_again_after_loss_before_the_capture() -> Case:
    talk = sent_after_handshake()
    talk.client(b"one")
    two = talk.client(b"two")
    again = talk.client(b"one", seq=1001)
    counted = {C: {"retransmitted": 1}, S: {"duplicate_acks": 2}}
    acks = [talk.send(S, seq=5001) for _ in range(3)]
    return Case(handshake_first(two, *acks, again), [b"onetwo"], [], counted, every_ns=10 * MS)


def other_bytes_before_they_are_delivered() -> Case:
    talk = sent_after_handshake()
    talk.client(b"one")
    two, other = talk.client(b"two"), talk.client(b"TWO and", seq=1004)
    frames = handshake_first(two, other, talk.client(b"one", seq=1001), talk.client(b"!", seq=1011))
    counted = {"conflicts": 1, "retransmitted_bytes": 3, "out_of_order": 2}
    return Case(frames, [b"onetwo and!"], [], {C: counted})


def the_same_bytes_before_they_are_delivered() -> Case:
    talk = sent_after_handshake()
    talk.client(b"one")
    two, again = talk.client(b"two"), talk.client(b"wo", seq=1005)
    frames = handshake_first(two, again, talk.client(b"one", seq=1001))
    counted = {"retransmitted": 1, "retransmitted_bytes": 2, "out_of_order": 1}
    return Case(frames, [b"onetwo"], [], {C: counted})


def lost_and_acknowledged() -> Case:
    talk = sent_after_handshake()
    talk.client(b"lost")
    rest = [talk.client(bytes([at]) * 2) for at in range(20)]
    ack = talk.server()
    # The hole is told once it is acknowledged and 16 packets more have come.
    frames = handshake_first(rest[0], ack, *rest[1:])
    return Case(frames, [4, b"".join(bytes([at]) * 2 for at in range(20))], [], {C: {"lost_bytes": 4}})


def lost_and_never_acknowledged() -> Case:
    talk = sent_after_handshake()
    talk.client(b"lost")
    return Case(handshake_first(talk.client(b"kept")), [4, b"kept"], [], {C: {"lost_bytes": 4}})


def lost_before_a_fin() -> Case:
    talk = sent_after_handshake()
    talk.client(b"lost")
    frames = handshake_first(*talk.close())
    return Case(frames, [4], [], {C: {"lost_bytes": 4}}, CLOSED)


def lost_at_the_end() -> Case:
    talk = sent_after_handshake()
    talk.client(b"lost")
    return Case(handshake_first(talk.server(b"answer")), [4], [b"answer"], {C: {"lost_bytes": 4}})


def keep_alives() -> Case:
    talk = sent_after_handshake()
    frames = [
        talk.client(b"data"),
        talk.client(seq=1004),
        talk.server(),
        talk.client(b"\0", seq=1004),
        talk.server(),
        talk.client(b"more"),
    ]
    counted = {C: {"keep_alives": 2}, S: {"duplicate_acks": 1}}
    return Case(handshake_first(*frames), [b"datamore"], [], counted)


def zero_window() -> Case:
    talk = sent_after_handshake()
    frames = [
        talk.client(b"full"),
        talk.send(S, window=0),
        talk.client(seq=1004),
        talk.send(S, window=0),
        talk.send(S, window=100),
        talk.client(b"more"),
    ]
    return Case(
        handshake_first(*frames),
        [b"fullmore"],
        [],
        {C: {"keep_alives": 1}, S: {"zero_windows": 2, "duplicate_acks": 1}},
    )


def duplicate() -> Case:
    talk = sent_after_handshake()
    one, answer = talk.client(b"one"), talk.server(b"ok")
    fin = talk.client(flags=FIN | ACK)
    frames = [one, one, answer, answer, talk.client(b"", seq=1004), fin, fin]
    counted = {C: {"duplicated": 2}, S: {"duplicated": 1}}
    return Case(handshake_first(*frames), [b"one"], [b"ok"], counted, OPEN | {C: Ending.FIN}, every_ns=1000)


def half_close() -> Case:
    talk = sent_after_handshake()
    frames = [
        talk.client(b"last words", FIN | ACK),
        talk.server(b"still "),
        talk.client(),
        talk.server(b"talking"),
        talk.server(flags=FIN | ACK),
        talk.client(),
    ]
    return Case(handshake_first(*frames), [b"last words"], [b"still talking"], {}, CLOSED)


def fin_sent_again() -> Case:
    talk = sent_after_handshake()
    fin = talk.client(b"", FIN | ACK)
    frames = [fin, talk.client(flags=FIN | ACK, seq=1001), talk.server(flags=FIN | ACK), talk.client()]
    return Case(handshake_first(*frames), [], [], {C: {"retransmitted": 1}}, CLOSED)


def fin_before_its_data() -> Case:
    talk = sent_after_handshake()
    data, fin = talk.client(b"data"), talk.client(flags=FIN | ACK)
    return Case(handshake_first(fin, data), [b"data"], [], {}, OPEN | {C: Ending.FIN})


def simultaneous_close() -> Case:
    talk = sent_after_handshake()
    one = talk.client(b"bye", FIN | ACK)
    two = ethernet(ip(SERVER[0], CLIENT[0], tcp(SERVER, CLIENT, 5001, 1001, FIN | ACK, b"bye"), ident=900))
    return Case(handshake_first(one, two), [b"bye"], [b"bye"], {}, CLOSED)


def reset() -> Case:
    talk = sent_after_handshake()
    frames = [talk.client(b"ask"), talk.server(b"part"), talk.server(flags=RST | ACK)]
    return Case(handshake_first(*frames), [b"ask"], [b"part"], {}, {S: Ending.RESET, C: Ending.PEER_RESET})


def reset_after_a_fin() -> Case:
    talk = sent_after_handshake()
    frames = [talk.client(b"ask", FIN | ACK), talk.server(b"part"), talk.client(flags=RST)]
    return Case(handshake_first(*frames), [b"ask"], [b"part"], {}, {C: Ending.FIN, S: Ending.PEER_RESET})


def reset_before_its_data() -> Case:
    talk = sent_after_handshake()
    data, rst = talk.client(b"data"), talk.client(flags=RST | ACK)
    return Case(handshake_first(rst, data), [b"data"], [], {}, {C: Ending.RESET, S: Ending.PEER_RESET})


def data_after_the_end() -> Case:
    talk = sent_after_handshake()
    frames = [talk.client(b"ask"), talk.server(flags=RST), talk.client(b"late"), talk.client(b"ask", seq=1001)]
    counted = {C: {"strange": 1, "retransmitted": 1, "retransmitted_bytes": 3}}
    ends = {S: Ending.RESET, C: Ending.PEER_RESET}
    return Case(handshake_first(*frames), [b"ask"], [], counted, ends, every_ns=1100 * MS)


def data_on_its_way_when_a_reset_came() -> Case:
    talk = sent_after_handshake()
    frames = [talk.client(b"ask"), talk.server(flags=RST), talk.client(b"late"), talk.client(b"ask", seq=1001)]
    counted = {C: {"retransmitted": 1, "retransmitted_bytes": 3}}
    return Case(handshake_first(*frames), [b"asklate"], [], counted, {S: Ending.RESET, C: Ending.PEER_RESET})


def data_after_a_fin() -> Case:
    talk = sent_after_handshake()
    frames = [talk.client(b"ask", FIN | ACK), talk.client(b"more"), talk.client(b"ask", seq=1001), talk.server(b"ok")]
    counted = {C: {"strange": 1, "retransmitted": 1, "retransmitted_bytes": 3}}
    return Case(handshake_first(*frames), [b"ask"], [b"ok"], counted, OPEN | {C: Ending.FIN})


def no_window_is_so_large() -> Case:
    talk = sent_after_handshake()
    far = [talk.client(b"far", seq=1001 + (1 << 30) + at * 3) for at in range(2)]
    return Case(handshake_first(*far, talk.client(b"near")), [b"near"], [], {C: {"strange": 2}})


@pytest.mark.parametrize(
    "make",
    [
        retransmission,
        retransmission_with_more,
        retransmission_with_other_bytes,
        reordered,
        sent_again_after_loss_before_the_capture,
        other_bytes_before_they_are_delivered,
        the_same_bytes_before_they_are_delivered,
        lost_and_acknowledged,
        lost_and_never_acknowledged,
        lost_before_a_fin,
        lost_at_the_end,
        keep_alives,
        zero_window,
        duplicate,
        half_close,
        fin_sent_again,
        fin_before_its_data,
        simultaneous_close,
        reset,
        reset_after_a_fin,
        reset_before_its_data,
        data_after_the_end,
        data_on_its_way_when_a_reset_came,
        data_after_a_fin,
        no_window_is_so_large,
    ],
)
def test_each_case_of_a_connection(make: Callable[[], Case]) -> None:
    case = make()
    seen, _ = read(captured(case.frames, every_ns=case.every_ns))
    [flow], [kept] = seen.flows, seen.sinks
    assert (kept.stream(C), kept.stream(S)) == (case.client, case.server)
    counted = {
        half.side: {name: getattr(half, name) for name in COUNTERS if getattr(half, name)}
        for half in (flow.client, flow.server)
    }
    assert counted == {C: case.counted.get(C, {}), S: case.counted.get(S, {})}
    assert {side: kept.ending(side) for side in Side} == case.endings
    assert flow.client.bytes == sum(len(one) for one in case.client if isinstance(one, bytes))
    assert flow.client.packets + flow.client.duplicated + flow.server.packets + flow.server.duplicated == len(
        case.frames
    )


def test_a_syn_that_is_sent_again_is_of_the_same_connection() -> None:
    talk = Talk()
    syn = talk.client(flags=SYN)
    frames = [syn, talk.client(flags=SYN, seq=1000), talk.server(flags=SYN | ACK), talk.client(), talk.client(b"hi")]
    seen, _ = read(captured(frames, every_ns=1000 * MS))
    [flow], [kept] = seen.flows, seen.sinks
    assert kept.stream(C) == [b"hi"]
    assert flow.client.retransmitted == 1
    assert flow.syn_ns == flow.first_ns


@pytest.mark.parametrize("order", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_fin_with_data_that_is_sent_again_counts_once(order: tuple[int, ...]) -> None:
    talk = Talk()
    opened = talk.handshake()
    first = talk.client(b"first")
    at = talk.next[C]
    sent = [talk.client(b"last", flags=FIN | ACK), talk.client(b"last", flags=FIN | ACK, seq=at)]
    lasts = iter(sent)
    frames = [first if not which else next(lasts) for which in order]
    seen, _ = read(captured([*opened, *frames, talk.server()], every_ns=10 * MS))
    [flow], [kept] = seen.flows, seen.sinks
    assert (kept.stream(C), kept.ending(C)) == ([b"firstlast"], Ending.FIN)
    assert flow.client.retransmitted == 1


def test_a_syn_with_another_sequence_number_begins_a_new_connection() -> None:
    old, new = Talk(), Talk(isns=(99_000, 88_000), ident=300)
    frames = [*old.handshake(), old.client(b"old"), *new.handshake(), new.client(b"new"), new.server(b"answer")]
    seen, _ = read(captured(frames))
    assert [kept.stream(C) for kept in seen.sinks] == [[b"old"], [b"new"]]
    assert [kept.stream(S) for kept in seen.sinks] == [[], [b"answer"]]
    assert [kept.ending(C) for kept in seen.sinks] == [Ending.REPLACED, Ending.CAPTURE_END]
    assert [flow.number for flow in seen.flows] == [0, 1]


def test_a_closed_connection_is_not_said_to_be_replaced() -> None:
    old, new = Talk(), Talk(isns=(99_000, 88_000), ident=300)
    seen, _ = read(captured([*old.handshake(), *old.close(), *new.handshake(), *new.close()]))
    assert [kept.ending(C) for kept in seen.sinks] == [Ending.FIN, Ending.FIN]


def test_a_simultaneous_open_is_one_connection_of_which_the_first_syn_is_the_clients() -> None:
    a, b = ("10.0.0.1", 5000), ("10.0.0.2", 6000)
    frames = [
        tcp(b, a, 700, flags=SYN),
        tcp(a, b, 100, flags=SYN),
        tcp(b, a, 700, 101, SYN | ACK),
        tcp(a, b, 100, 701, SYN | ACK),
        tcp(b, a, 701, 101, ACK, b"from b"),
        tcp(a, b, 101, 707, ACK, b"from a"),
    ]
    packets = [
        ip("10.0.0.2" if at % 2 == 0 else "10.0.0.1", "10.0.0.1" if at % 2 == 0 else "10.0.0.2", one, ident=at + 1)
        for at, one in enumerate(frames)
    ]
    seen, _ = read(captured(packets, link_type=101))
    [flow], [kept] = seen.flows, seen.sinks
    assert str(flow.client.address) == "10.0.0.2:6000"
    assert (kept.stream(C), kept.stream(S)) == ([b"from b"], [b"from a"])


def test_a_connection_to_itself_is_one_half() -> None:
    me = ("127.0.0.1", 5000)
    frames = [tcp(me, me, 100, flags=SYN), tcp(me, me, 100, 101, SYN | ACK), tcp(me, me, 101, 101, ACK, b"echo")]
    seen, _ = read(captured([ip(me[0], me[0], one, ident=at) for at, one in enumerate(frames, 1)], link_type=101))
    assert [kept.stream(C) for kept in seen.sinks] == [[b"echo"]]


def test_data_in_a_syn_is_delivered() -> None:
    talk = Talk()
    frames = [talk.client(b"fast", SYN), talk.server(flags=SYN | ACK), talk.client(b" open")]
    seen, _ = read(captured(frames))
    assert seen.sinks[0].stream(C) == [b"fast open"]


def test_a_refused_connection_is_reset_by_the_server() -> None:
    talk = Talk()
    refusal = ethernet(ip(SERVER[0], CLIENT[0], tcp(SERVER, CLIENT, 0, 1001, RST | ACK)))
    seen, _ = read(captured([talk.client(flags=SYN), refusal]))
    [flow], [kept] = seen.flows, seen.sinks
    assert kept.events == [("ended", S, Ending.RESET), ("ended", C, Ending.PEER_RESET)]
    assert flow.established_ns is None


@pytest.mark.parametrize(("client", "server"), [(CLIENT, SERVER), (("10.0.0.9", 8443), ("10.0.0.1", 1234))])
def test_without_a_syn_the_lower_port_is_the_servers(client: tuple[str, int], server: tuple[str, int]) -> None:
    talk = Talk(client, server)
    talk.handshake()
    seen, _ = read(captured([talk.server(b"push"), talk.client(b"pull")]))
    [flow], [kept] = seen.flows, seen.sinks
    assert (flow.client.address.port, flow.server.address.port) == (client[1], server[1])
    assert not flow.from_start
    assert (kept.stream(C), kept.stream(S)) == ([b"pull"], [b"push"])


def test_a_connection_that_is_joined_in_the_middle_is_told_after_a_few_packets() -> None:
    talk = Talk()
    talk.handshake()
    packets = captured([talk.client(b"x") for _ in range(9)])
    seen = Seen()
    flows = Flows(seen.opened)
    for packet in packets[:-1]:
        flows.packet(packet)
    assert not seen.sinks
    flows.packet(packets[-1])
    assert seen.sinks[0].numbers == list(range(1, 10))


@pytest.mark.parametrize("reset", [True, False])
def test_each_side_ends_where_a_fin_is_the_first_packet_that_was_captured(reset: bool) -> None:
    talk = Talk()
    talk.handshake()
    frames = [talk.server(flags=FIN), *([talk.server(flags=RST)] if reset else []), talk.client(b"late")]
    seen, _ = read(captured(frames))
    [kept] = seen.sinks
    assert kept.stream(C) == [b"late"]
    ending = Ending.PEER_RESET if reset else Ending.CAPTURE_END
    assert (kept.ending(S), kept.ending(C)) == (Ending.FIN, ending)


def test_the_bytes_of_both_sides_wait_together_until_it_is_known_where_each_begins() -> None:
    talk = Talk()
    talk.handshake()
    preface = talk.client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    talk.server(b"lost")
    frames = [preface, talk.server(b"a"), talk.client(b"b"), talk.server(b"c"), talk.client(b"d")]
    late = captured([*frames, talk.server(b"e")])
    late[-1] = late[-1]._replace(time_ns=late[-1].time_ns + 1_000 * MS)
    seen, _ = read(late)
    [kept] = seen.sinks
    # The preface acknowledges nothing of the server but its SYN, so that 4 bytes are lost.
    assert kept.numbers == [1, 2, 3, 4, 5, 6]
    assert [event[1:] for event in kept.events if event[0] != "ended"] == [
        (C, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (S, 4),
        (S, b"a"),
        (C, b"b"),
        (S, b"c"),
        (C, b"d"),
        (S, b"e"),
    ]
    assert seen.flows[0].from_start


def test_bytes_that_wait_out_of_order_come_with_the_packet_that_closed_the_hole_before_them() -> None:
    talk = Talk()
    talk.handshake()
    first, second, third = talk.client(b"1"), talk.client(b"2"), talk.client(b"3")
    seen, _ = read(captured([second, talk.server(b"a"), first, talk.server(b"b"), third]))
    [kept] = seen.sinks
    assert kept.events[:4] == [("data", S, b"a"), ("data", C, b"12"), ("data", S, b"b"), ("data", C, b"3")]
    assert kept.numbers == [2, 3, 3, 4, 5]


def test_an_acknowledgement_before_the_syn_ack_does_not_decide_where_the_bytes_begin() -> None:
    talk = Talk()
    syn, syn_ack, _ = talk.handshake()
    first, ack, second = talk.server(b"1"), talk.client(), talk.server(b"2")
    seen, _ = read(captured([syn, ack, second, syn_ack, first]))
    assert seen.sinks[0].stream(S) == [b"12"]


def test_a_late_syn_decides_where_the_bytes_begin() -> None:
    talk = Talk()
    syn, answer, ack = talk.handshake()
    before = talk.client(b"of another connection", seq=980)
    seen, flows = read(captured([before, talk.client(b"hello"), ack, syn, answer]), through_a_file=False)
    [kept] = seen.sinks
    assert kept.stream(C) == [b"hello"]
    assert repr(flows) == "<Flows [0 connections, 0 bytes wait]>"


def test_without_its_syn_ack_a_server_is_told_from_what_the_client_acknowledged() -> None:
    talk = Talk()
    syn, _, ack = talk.handshake()
    talk.server(b"lost")
    second, third = talk.server(b"second"), talk.server(b"third")
    seen, _ = read(captured([syn, ack, second, third]))
    assert seen.sinks[0].stream(S) == [4, b"secondthird"]


def test_one_direction_alone_is_told_too_and_its_holes_are_given_up() -> None:
    talk = Talk()
    frames = [talk.client(flags=SYN)]
    talk.server(flags=SYN | ACK)
    frames += [talk.client(), talk.client(b"first")]
    talk.client(b"lost")
    frames += [talk.client(b"%02d" % at) for at in range(90)]
    seen, _ = read(captured(frames))
    [kept] = seen.sinks
    assert kept.stream(C) == [b"first", 4, b"".join(b"%02d" % at for at in range(90))]
    assert kept.numbers[-1] == len(frames)
    assert kept.numbers.count(kept.numbers[1]) == 65  # all that had waited, at once
    assert kept.ending(S) is Ending.CAPTURE_END


def test_packets_cut_by_the_snapshot_length_give_what_they_have() -> None:
    talk = Talk()
    packets = captured([*talk.handshake(), talk.client(b"whole and cut"), talk.client(b"next")])
    packets[3] = packets[3]._replace(data=packets[3].data[:-8])
    packets[4] = packets[4]._replace(data=packets[4].data[:-4])
    seen, _ = read(packets)
    [flow], [kept] = seen.flows, seen.sinks
    assert kept.stream(C) == [b"whole", 8, 4]
    assert (flow.client.bytes, flow.client.cut_bytes, flow.client.lost_bytes) == (17, 12, 0)


def test_packets_that_are_cut_and_reordered_give_what_they_have() -> None:
    talk = sent_after_handshake()
    one, two, three = talk.client(b"one+++"), talk.client(b"two+++"), talk.client(b"three+")
    packets = captured(handshake_first(three, two, one))
    packets = [one if at < 3 else one._replace(data=one.data[:-3]) for at, one in enumerate(packets)]
    seen, _ = read(packets)
    assert seen.sinks[0].stream(C) == [b"one", 3, b"two", 3, b"thr", 3]
    assert seen.flows[0].client.cut_bytes == 9


def test_the_same_packet_without_an_identification_is_captured_twice_only_if_it_is_soon() -> None:
    for every_ns, duplicated in ((MS, 1), (100 * MS, 0)):
        talk = Talk(("::1", 40000), ("::1", 443))
        frames = [*talk.handshake(), one := talk.client(b"one"), one]
        seen, _ = read(captured(frames, every_ns=every_ns))
        client = seen.flows[0].client
        assert (client.duplicated, client.retransmitted) == (duplicated, 1 - duplicated)


def test_bytes_after_the_ip_packet_are_not_compared_with_what_is_sent_again() -> None:
    talk = sent_after_handshake()
    padded, rest = talk.client(b"a") + b"pad", talk.client(b"bcd")
    frames = handshake_first(padded, rest, talk.client(b"abcd", seq=1001))
    seen, _ = read(captured(frames))
    assert (seen.flows[0].client.retransmitted, seen.flows[0].client.conflicts) == (1, 0)


def test_a_packet_captured_twice_may_have_another_link_header_and_hop_limit() -> None:
    talk = sent_after_handshake()
    one = talk.client(b"one")
    routed = b"\2\0\0\0\0\7" + one[6:22] + bytes([one[22] - 1]) + one[23:]
    seen, _ = read(captured(handshake_first(one, routed)))
    assert (seen.flows[0].client.duplicated, seen.flows[0].client.retransmitted) == (1, 0)


def test_sequence_numbers_wrap_around() -> None:
    talk = Talk(isns=(2**32 - 10, 2**32 - 1))
    frames = [*talk.handshake(), *[talk.client(b"%d" % at) for at in range(10)], talk.server(b"ok"), *talk.close()]
    frames[5], frames[6] = frames[6], frames[5]
    seen, _ = read(captured(frames))
    assert (seen.sinks[0].stream(C), seen.sinks[0].stream(S)) == ([b"0123456789"], [b"ok"])
    assert seen.sinks[0].ending(S) is Ending.FIN


def test_a_capture_that_was_interrupted_for_long_goes_on_after_a_gap() -> None:
    talk = sent_after_handshake()
    before = [talk.client(b"before")]
    talk.next[C] += 3 << 30
    after = [talk.client(b"after%d" % (at % 10)) for at in range(20)]
    seen, _ = read(captured(handshake_first(*before, *after, talk.server())))
    parts = seen.sinks[0].stream(C)
    assert parts[:2] == [b"before", (3 << 30) + 15 * 6]
    assert parts[2:] == [b"".join(b"after%d" % (at % 10) for at in range(15, 20))]


# -- bounds --


def test_bytes_that_wait_behind_a_hole_are_bounded_for_each_direction() -> None:
    talk = sent_after_handshake()
    talk.client(b"lost")
    frames = [talk.client(bytes(1000)) for _ in range(30)]
    seen, _ = read(captured(handshake_first(*frames)), Limits(half_bytes=10_000))
    [kept] = seen.sinks
    assert kept.stream(C) == [4, bytes(30_000)]
    assert kept.numbers == [12] * 9 + list(range(13, 34))


def test_bytes_that_wait_behind_holes_are_bounded_in_all() -> None:
    talks = [Talk(("10.0.0.1", 40_000 + at)) for at in range(20)]
    frames = [frame for talk in talks for frame in talk.handshake()]
    for talk in talks:
        talk.client(b"lost")
    frames += [talk.client(bytes(1000)) for _ in range(3) for talk in talks]
    seen, flows = read(captured(frames), Limits(bytes=10_000))
    assert [kept.stream(C) for kept in seen.sinks] == [[4, bytes(3000)]] * 20
    waited = [kept.numbers[0] for kept in seen.sinks]
    assert any(number < 121 for number in waited)  # and not all until the end
    assert repr(flows) == "<Flows [0 connections, 0 bytes wait]>"


def test_connections_are_bounded_and_those_idle_for_longest_are_given_up() -> None:
    talks = [Talk(("10.0.0.1", 30_000 + at)) for at in range(40)]
    frames = [frame for talk in talks for frame in [*talk.handshake(), talk.client(b"hello")]]
    seen, flows = read(captured(frames), Limits(flows=16))
    assert [kept.stream(C) for kept in seen.sinks] == [[b"hello"]] * 40
    endings = [kept.ending(C) for kept in seen.sinks]
    assert endings == [Ending.GIVEN_UP] * 24 + [Ending.CAPTURE_END] * 16
    assert flows.totals.given_up == 24


def test_ended_connections_are_forgotten_first() -> None:
    open_one = Talk(("10.0.0.1", 20_000))
    frames = open_one.handshake()
    for at in range(40):
        talk = Talk(("10.0.0.1", 30_000 + at))
        frames += [*talk.handshake(), *talk.close()]
    frames.append(open_one.client(b"still here"))
    seen, flows = read(captured(frames), Limits(flows=4))
    assert seen.sinks[0].stream(C) == [b"still here"]
    assert flows.totals.given_up == 0


def test_a_packet_of_no_connection_is_counted() -> None:
    talk = Talk()
    talk.handshake()
    seen, flows = read(captured([talk.client(), talk.server(), talk.server(flags=RST)]))
    assert (seen.flows, flows.totals.without_flow) == ([], 3)


def test_a_hole_is_given_up_while_time_passes_without_packets() -> None:
    talk = sent_after_handshake()
    talk.client(b"lost")
    packets = captured(handshake_first(talk.client(b"kept"), talk.server()))
    seen = Seen()
    flows = Flows(seen.opened)
    for packet in packets:
        flows.packet(packet)
    [kept] = seen.sinks
    assert kept.stream(C) == []
    flows.tick(packets[-1].time_ns + 500 * MS)
    assert kept.stream(C) == []
    flows.tick(packets[-1].time_ns + 1500 * MS)
    assert kept.stream(C) == [4, b"kept"]
