"""Which FIN, RST and SYN of a capture counts: what its receiver can have accepted, and not what anyone else sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from meshtls.capture.flow import Ending
from meshtls.capture.sequence import window_scale
from meshtls.capture.tcp import Flows
from meshtls.wire.side import Side
from tests.support.packets import ACK, FIN, MS, RST, SYN, Seen, Talk, captured, read

C, S = Side.CLIENT, Side.SERVER
OPEN = {C: Ending.CAPTURE_END, S: Ending.CAPTURE_END}
RESET_BY_SERVER = {C: Ending.PEER_RESET, S: Ending.RESET}
#: The window scale option, with a shift of 7.
SCALED = b"\x01\x03\x03\x07"


@dataclass
class Case:
    """What is sent after a handshake, ``every_ns``, and what is told of it.

    ``strange``: packets of each side. ``lost``: bytes that are missing at the end of the server's.
    """

    frames: Callable[[Talk], list[bytes]]
    client: bytes = b"ask"
    server: bytes = b"answer"
    ends: dict[Side, Ending] = field(default_factory=lambda: OPEN)
    strange: dict[Side, int] = field(default_factory=lambda: {C: 0, S: 0})
    lost: int = 0
    every_ns: int = MS
    options: bytes = b""


ONE_OF_SERVER, ONE_OF_CLIENT = {C: 0, S: 1}, {C: 1, S: 0}
#: The time between packets: an acknowledgement three packets after a RST is later by more than a round trip, of two.
APART = 10 * MS


def asked(talk: Talk, *more: Callable[[], bytes]) -> list[bytes]:
    """A request, these frames, the answer, and its acknowledgement."""
    return [talk.client(b"ask"), *(one() for one in more), talk.server(b"answer"), talk.client()]


def reset(talk: Talk, ahead: int, flags: int = RST, payload: bytes = b"") -> Callable[[], bytes]:
    """A RST in the server's name, so far ahead of its next byte."""
    return lambda: talk.server(payload, flags, seq=talk.next[S] + ahead)


CASES = {
    "a RST after the window": Case(lambda talk: asked(talk, reset(talk, 64_001)), strange=ONE_OF_SERVER),
    "a RST at the end of the window, after which the connection goes on": Case(
        lambda talk: [*asked(talk, reset(talk, 64_000)), talk.server(bytes(64_000)), talk.client()],
        server=b"answer" + bytes(64_000),
        strange=ONE_OF_SERVER,
    ),
    "a RST before the window": Case(lambda talk: asked(talk, reset(talk, -1)), strange=ONE_OF_SERVER),
    "a RST far before the window": Case(lambda talk: asked(talk, reset(talk, -(1 << 20))), strange=ONE_OF_SERVER),
    "a RST on the other side of the numbers": Case(
        lambda talk: asked(talk, reset(talk, 1 << 31)), strange=ONE_OF_SERVER
    ),
    "a RST in the window, where no byte is yet, and bytes after it that are acknowledged": Case(
        lambda talk: asked(talk, reset(talk, 3)), strange=ONE_OF_SERVER
    ),
    "a RST in the window, and a FIN after it that is acknowledged": Case(
        lambda talk: [*asked(talk, reset(talk, 6)), *talk.close()],
        ends={C: Ending.FIN, S: Ending.FIN},
        strange=ONE_OF_SERVER,
    ),
    "a RST in the window, and nothing after it": Case(
        lambda talk: [talk.client(b"ask"), reset(talk, 6)(), talk.server(b"answer")], ends=RESET_BY_SERVER
    ),
    "a RST at the next byte": Case(
        lambda talk: [*asked(talk), reset(talk, 0)()],
        ends=RESET_BY_SERVER,
    ),
    "a RST after a FIN that was not captured": Case(
        lambda talk: [*asked(talk), reset(talk, 1)()],
        ends=RESET_BY_SERVER,
    ),
    "a RST after a byte and a FIN that were not captured": Case(
        lambda talk: [*asked(talk), reset(talk, 2)()],
        ends=RESET_BY_SERVER,
        lost=2,
    ),
    "a RST at the next byte that was not accepted, since bytes after it are acknowledged": Case(
        lambda talk: asked(talk, reset(talk, 0)), strange=ONE_OF_SERVER
    ),
    "a RST at the next byte whose sender acknowledges what came later": Case(
        lambda talk: [talk.client(b"ask"), reset(talk, 0)(), talk.client(b" "), talk.client(b"more"), talk.server()],
        client=b"ask more",
        server=b"",
        strange=ONE_OF_SERVER,
        every_ns=APART,
    ),
    "a RST whose sender acknowledges what came later, within a round trip": Case(
        lambda talk: [talk.client(b"ask"), reset(talk, 0)(), talk.client(b" more"), talk.server()],
        client=b"ask more",
        server=b"",
        ends=RESET_BY_SERVER,
        every_ns=APART,
    ),
    "a RST captured before an acknowledgement that its sender sent before it": Case(
        lambda talk: [talk.client(b"ask"), reset(talk, 0)(), talk.client(b" more"), talk.server()],
        client=b"ask more",
        server=b"",
        ends=RESET_BY_SERVER,
    ),
    "a RST whose sender acknowledges only what came before it": Case(
        lambda talk: [talk.client(b"ask"), reset(talk, 0)(), talk.server(), talk.server(), talk.server()],
        server=b"",
        ends=RESET_BY_SERVER,
        every_ns=APART,
    ),
    "a RST with an ACK and a window of 0, as Linux sends it": Case(
        lambda talk: [*asked(talk), talk.send(S, flags=RST | ACK, window=0)], ends=RESET_BY_SERVER
    ),
    "a RST with the number that the receiver has acknowledged, while bytes are on their way": Case(
        lambda talk: [
            talk.client(b"ask"),
            talk.server(b"answer"),
            talk.send(C, ack=talk.isn[S] + 1),
            talk.server(flags=RST, seq=talk.isn[S] + 1),
        ],
        ends=RESET_BY_SERVER,
    ),
    "a RST in a window of 0, at the acknowledged byte": Case(
        lambda talk: [*asked(talk), talk.send(C, window=0), reset(talk, 0)()], ends=RESET_BY_SERVER
    ),
    "a RST after a window of 0": Case(
        lambda talk: [*asked(talk), talk.send(C, window=0), reset(talk, 1)()], strange=ONE_OF_SERVER
    ),
    "a RST in a window that is scaled": Case(
        lambda talk: [*asked(talk), reset(talk, 100_000)()], lost=100_000, ends=RESET_BY_SERVER, options=SCALED
    ),
    "a RST after a window that is scaled": Case(
        lambda talk: [*asked(talk), reset(talk, (64_000 << 7) + 1)()], strange=ONE_OF_SERVER, options=SCALED
    ),
    "a RST after a window that is not scaled": Case(
        lambda talk: [*asked(talk), reset(talk, 100_000)()], strange=ONE_OF_SERVER
    ),
    "a RST with text, which is none of the stream": Case(
        lambda talk: [*asked(talk), reset(talk, 0, payload=b"go away")()], ends=RESET_BY_SERVER
    ),
    "a FIN and a RST at the same place, ahead of the bytes": Case(
        lambda talk: [
            talk.client(b"ask"),
            reset(talk, 6)(),
            talk.server(flags=FIN | ACK, seq=talk.next[S] + 6),
            talk.server(b"answer"),
        ],
        ends={C: Ending.PEER_RESET, S: Ending.FIN},
    ),
    "a SYN after a RST in the window that has not been reached": Case(
        lambda talk: asked(talk, reset(talk, 3), lambda: talk.client(flags=SYN, seq=77)), strange={C: 1, S: 1}
    ),
    "many RSTs, of which the last one is accepted": Case(
        lambda talk: [
            *asked(talk, *(reset(talk, ahead) for ahead in (1, 2, 3, 4, 5))),
            reset(talk, 0)(),
        ],
        ends=RESET_BY_SERVER,
        strange={C: 0, S: 5},
    ),
    "a RST of each side": Case(
        lambda talk: [*asked(talk), reset(talk, 0)(), talk.client(flags=RST)],
        ends={C: Ending.RESET, S: Ending.RESET},
    ),
    "a FIN of the other side on its way when a RST came": Case(
        lambda talk: [*asked(talk), reset(talk, 0)(), talk.client(flags=FIN | ACK)], ends=RESET_BY_SERVER
    ),
    "a FIN before the bytes that have come": Case(
        lambda talk: asked(talk, lambda: talk.server(flags=FIN | ACK, seq=talk.next[S] - 1)), strange=ONE_OF_SERVER
    ),
    "a FIN after the window": Case(
        lambda talk: [
            *asked(talk, lambda: talk.server(flags=FIN | ACK, seq=talk.next[S] + 200_000)),
            talk.server(flags=FIN | ACK),
            talk.client(),
        ],
        ends=OPEN | {S: Ending.FIN},
        strange=ONE_OF_SERVER,
    ),
    "a FIN in the window, and bytes after it that are acknowledged": Case(
        lambda talk: [
            *asked(talk, lambda: talk.server(flags=FIN | ACK, seq=talk.next[S] + 3)),
            talk.server(flags=FIN | ACK),
            talk.client(),
        ],
        ends=OPEN | {S: Ending.FIN},
        strange=ONE_OF_SERVER,
    ),
    "a FIN in the window, and bytes after it that are not acknowledged": Case(
        lambda talk: [
            talk.client(b"ask"),
            talk.server(flags=FIN | ACK, seq=talk.next[S] + 6),
            talk.server(b"answer and more"),
        ],
        ends=OPEN | {S: Ending.FIN},
        strange=ONE_OF_SERVER,
    ),
    "bytes after the window": Case(
        lambda talk: asked(talk, lambda: talk.server(b"other", seq=talk.next[S] + 200_000)), strange=ONE_OF_SERVER
    ),
    "many bytes after the window, while the receiver acknowledges those in it": Case(
        lambda talk: asked(
            talk,
            *(
                one
                for at in range(20)
                for one in (lambda at=at: talk.server(b"%02d" % at, seq=talk.next[S] + 200_000 + 2 * at), talk.client)
            ),
        ),
        strange={C: 0, S: 20},
    ),
    "a SYN that is not answered": Case(
        lambda talk: asked(talk, lambda: talk.client(flags=SYN, seq=77)), strange=ONE_OF_CLIENT
    ),
    "a SYN that an ACK of the connection answers": Case(
        lambda talk: asked(talk, lambda: talk.client(flags=SYN, seq=77), talk.server), strange=ONE_OF_CLIENT
    ),
    "a SYN that is sent again, and not answered": Case(
        lambda talk: asked(talk, *[lambda: talk.client(flags=SYN, seq=77)] * 3), strange=ONE_OF_CLIENT
    ),
    "a SYN-ACK that is not answered": Case(
        lambda talk: asked(talk, lambda: talk.server(flags=SYN | ACK, seq=77)), strange=ONE_OF_SERVER
    ),
    "a SYN-ACK that seems to be answered by the connection itself": Case(
        lambda talk: [
            talk.client(b"ask"),
            talk.server(b"answer"),
            talk.server(flags=SYN | ACK, seq=talk.next[S] - 1),
            talk.client(),
            talk.client(b"!"),
        ],
        client=b"ask!",
        strange=ONE_OF_SERVER,
    ),
    "a SYN of each side that do not answer one another": Case(
        lambda talk: asked(
            talk, lambda: talk.client(flags=SYN, seq=77), lambda: talk.send(S, flags=SYN | ACK, seq=99, ack=79)
        ),
        strange={C: 1, S: 1},
    ),
    "a RST that refuses a SYN which another one sent": Case(
        lambda talk: asked(
            talk, lambda: talk.client(flags=SYN, seq=77), lambda: talk.send(S, flags=RST | ACK, seq=0, ack=78)
        ),
        strange={C: 1, S: 1},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_segment_that_a_receiver_does_not_accept_changes_nothing(case: Case) -> None:
    talk = Talk()
    opening = [talk.send(C, flags=SYN, options=case.options), talk.send(S, flags=SYN | ACK, options=case.options)]
    seen, _ = read(captured([*opening, talk.client(), *case.frames(talk)], every_ns=case.every_ns))
    [flow], [kept] = seen.flows, seen.sinks
    assert (kept.stream(C), kept.stream(S)) == (whole(case.client), whole(case.server) + [case.lost] * bool(case.lost))
    assert {side: kept.ending(side) for side in Side} == case.ends
    assert {half.side: half.strange for half in flow.halves} == case.strange


def whole(data: bytes) -> list[bytes | int]:
    return [data] if data else []


@pytest.mark.parametrize(("ack", "ends"), [(1, RESET_BY_SERVER), (0, OPEN), (2, OPEN)])
def test_a_rst_refuses_a_syn_only_if_it_acknowledges_it(ack: int, ends: dict[Side, Ending]) -> None:
    talk = Talk()
    syn = talk.client(flags=SYN)
    seen, _ = read(captured([syn, talk.send(S, flags=RST | ACK, seq=0, ack=talk.isn[C] + ack)]))
    assert {side: seen.sinks[0].ending(side) for side in Side} == ends


def test_a_rst_without_an_ack_does_not_refuse_a_syn() -> None:
    talk = Talk()
    seen, _ = read(captured([talk.client(flags=SYN), talk.send(S, flags=RST, ack=talk.isn[C] + 1)]))
    assert seen.sinks[0].ending(C) is Ending.CAPTURE_END


def test_a_syn_that_is_refused_in_anothers_name_is_answered_all_the_same() -> None:
    talk = Talk()
    syn = talk.client(flags=SYN)
    other = talk.send(S, flags=RST | ACK, seq=0, ack=42)
    seen, _ = read(captured([syn, other, talk.server(flags=SYN | ACK), talk.client(), talk.client(b"hello")]))
    [flow], [kept] = seen.flows, seen.sinks
    assert (kept.stream(C), kept.ending(C), flow.server.strange) == ([b"hello"], Ending.CAPTURE_END, 1)


@pytest.mark.parametrize(("seq", "ends"), [(1, RESET_BY_SERVER), (0, OPEN), (64_001, RESET_BY_SERVER), (64_002, OPEN)])
def test_without_its_syn_ack_a_rst_is_measured_by_what_the_client_acknowledges(
    seq: int, ends: dict[Side, Ending]
) -> None:
    talk = Talk()
    syn, _, ack = talk.handshake()
    seen, _ = read(captured([syn, ack, talk.server(flags=RST, seq=talk.isn[S] + seq)]))
    assert {side: seen.sinks[0].ending(side) for side in Side} == ends


def test_a_rst_counts_where_nothing_else_is_known_of_its_direction() -> None:
    talk = Talk()
    talk.handshake()
    seen, _ = read(captured([talk.client(b"ask", flags=0), reset(talk, 0)()]))
    assert {side: seen.sinks[0].ending(side) for side in Side} == RESET_BY_SERVER


def test_only_windows_that_both_ends_scale_are_scaled() -> None:
    for scaled in Side:
        talk = Talk()
        opening = [
            talk.send(C, flags=SYN, options=SCALED if scaled is C else b""),
            talk.send(S, flags=SYN | ACK, options=SCALED if scaled is S else b""),
        ]
        seen, _ = read(captured([*opening, *asked(talk), reset(talk, 100_000)()]))
        assert seen.sinks[0].ending(S) is Ending.CAPTURE_END


@pytest.mark.parametrize(("ahead", "ends"), [(0, RESET_BY_SERVER), (1 << 29, RESET_BY_SERVER), (-1, OPEN)])
def test_without_a_syn_a_window_may_be_scaled_as_far_as_possible(ahead: int, ends: dict[Side, Ending]) -> None:
    talk = Talk()
    talk.handshake()
    frames = [frame for _ in range(10) for frame in (talk.server(b"answer"), talk.client())]
    seen, _ = read(captured([*frames, reset(talk, ahead)()]))
    assert {side: seen.sinks[0].ending(side) for side in Side} == ends


@pytest.mark.parametrize("isns", [(1000, 5000), (2**32 - 1, 2**32 - 1)])
def test_a_rst_after_a_syn_ack_needs_no_ack(isns: tuple[int, int]) -> None:
    talk = Talk(isns=isns)
    seen, _ = read(captured([talk.client(flags=SYN), talk.server(flags=SYN | ACK), reset(talk, 0)()]))
    assert {side: seen.sinks[0].ending(side) for side in Side} == RESET_BY_SERVER


@pytest.mark.parametrize(("ahead", "told"), [(2 * 65_536, True), (2 * 65_536 + 1, False)])
def test_bytes_may_be_twice_the_window_ahead_since_acknowledgements_are_captured_late(ahead: int, told: bool) -> None:
    talk = Talk()
    frames = [*talk.handshake(), talk.client(b"ask"), talk.server(b"far", seq=talk.next[S] + ahead)]
    seen, _ = read(captured(frames))
    assert seen.sinks[0].stream(S) == ([ahead, b"far"] if told else [])


@pytest.mark.parametrize("isns", [(1000, 5000), (2**32 - 61, 2**32 - 61)])
@pytest.mark.parametrize(
    ("ahead", "ends"),
    [
        (0, RESET_BY_SERVER),
        (-3, RESET_BY_SERVER),
        (1 << 24, RESET_BY_SERVER),
        ((1 << 24) + 1, OPEN),
        (-(1 << 24), RESET_BY_SERVER),
        (-(1 << 24) - 1, OPEN),
    ],
)
def test_where_one_direction_was_captured_a_rst_has_to_be_near_its_bytes(
    ahead: int, ends: dict[Side, Ending], isns: tuple[int, int]
) -> None:
    talk = Talk(isns=isns)
    talk.handshake()
    frames = [talk.server(b"answer") for _ in range(10)]
    seen, _ = read(captured([*frames, reset(talk, ahead)()]))
    assert {side: seen.sinks[0].ending(side) for side in Side} == ends


def test_a_rst_ends_the_connection_a_second_later_if_nothing_contradicts_it() -> None:
    talk = Talk()
    packets = captured([*talk.handshake(), talk.client(b"ask"), talk.server(flags=RST)])
    seen, told = Seen(), []
    flows = Flows(seen.opened)
    for packet in packets:
        flows.packet(packet)
    [kept], reset_ns = seen.sinks, packets[-1].time_ns
    seen.sinks[0].ended = lambda side, how, time_ns: told.append((side, how, time_ns))  # type: ignore[method-assign]
    flows.tick(reset_ns + 1000 * MS)
    assert not told
    flows.tick(reset_ns + 1001 * MS)
    assert told == [(S, Ending.RESET, reset_ns), (C, Ending.PEER_RESET, reset_ns)]
    assert kept.stream(C) == [b"ask"]
    # It is remembered for what comes late, as others are.
    [late] = captured([talk.client(b"late")])
    flows.packet(late._replace(number=9, time_ns=reset_ns + 1100 * MS))
    assert (len(seen.flows), seen.flows[0].client.strange) == (1, 1)


# -- new connections in the place of another --


def new_talk() -> Talk:
    return Talk(isns=(99_000, 88_000), ident=300)


def test_a_syn_replaces_a_connection_once_it_is_answered_and_no_packet_is_lost_of_either() -> None:
    old, new = Talk(), new_talk()
    syn, syn_ack, ack = new.handshake()
    frames = [*old.handshake(), old.client(b"old"), syn, old.server(b"late"), syn_ack, ack, new.client(b"new")]
    seen, _ = read(captured(frames))
    assert [(kept.stream(C), kept.stream(S)) for kept in seen.sinks] == [([b"old"], [b"late"]), ([b"new"], [])]
    assert [kept.ending(C) for kept in seen.sinks] == [Ending.REPLACED, Ending.CAPTURE_END]
    first, second = seen.flows
    assert (first.client.packets, first.client.strange, second.client.packets) == (3, 0, 3)
    assert sum(half.wire_bytes for flow in seen.flows for half in flow.halves) == sum(map(len, frames))
    assert second.syn_ns is not None
    assert second.syn_ns == second.first_ns == first.first_ns + 4 * MS


def test_a_syn_ack_replaces_a_connection_once_it_is_answered_where_the_syn_was_not_captured() -> None:
    old, new = Talk(), new_talk()
    _, syn_ack, ack = new.handshake()
    seen, _ = read(captured([*old.handshake(), old.client(b"old"), syn_ack, ack, new.client(b"new")]))
    assert [kept.stream(C) for kept in seen.sinks] == [[b"old"], [b"new"]]
    assert [str(flow.client.address) for flow in seen.flows] == ["10.0.0.1:40000"] * 2


def test_a_syn_with_data_is_answered_by_any_part_of_it() -> None:
    for acked in (1, 3, 6):
        old, new = Talk(), new_talk()
        syn = new.client(b"early", SYN)
        syn_ack = new.send(S, flags=SYN | ACK, ack=new.isn[C] + acked)
        seen, _ = read(captured([*old.handshake(), old.client(b"old"), syn, syn_ack, new.client(b" and more")]))
        assert [kept.stream(C) for kept in seen.sinks] == [[b"old"], [b"early and more"]]


def test_a_syn_replaces_a_connection_of_which_one_direction_was_captured_when_its_sender_goes_on() -> None:
    old, new = Talk(), new_talk()
    syn, _, ack = new.handshake()
    seen, _ = read(captured([*old.handshake()[::2], old.client(b"old"), syn, ack, new.client(b"new")]))
    assert [kept.stream(C) for kept in seen.sinks] == [[b"old"], [b"new"]]


def test_a_syn_replaces_one_that_nobody_has_answered_for_a_second() -> None:
    for every_ns, flows in ((1001 * MS, 2), (1000 * MS, 1)):
        seen, _ = read(captured([Talk().client(flags=SYN), new_talk().client(flags=SYN)], every_ns=every_ns))
        assert len(seen.flows) == flows


def test_a_syn_replaces_a_connection_that_was_reset_at_once() -> None:
    old, new = Talk(), new_talk()
    seen, _ = read(captured([*old.handshake(), old.server(flags=RST), *new.handshake()]))
    assert [kept.ending(S) for kept in seen.sinks] == [Ending.RESET, Ending.CAPTURE_END]


def test_syns_that_wait_are_bounded_and_leave_nothing_behind() -> None:
    talks = [Talk(("10.0.0.1", 10_000 + at)) for at in range(1100)]
    frames = [frame for talk in talks for frame in talk.handshake()]
    frames += [talk.client(bytes(3000), SYN, seq=77) for talk in talks]
    seen = Seen()
    flows = Flows(seen.opened)
    for packet in captured(frames):
        flows.packet(packet)
    assert len(flows._new_syns) == 1024
    assert max(len(syn.segment.data) for syn in flows._new_syns._waiting.values()) == 2048
    assert [flow.client.strange for flow in seen.flows] == [1] * 1100
    assert set(flows._new_syns._waiting) == {flow.client.key for flow in seen.flows[-1024:]}
    flows.finish()
    assert len(flows._new_syns) == 0


def test_a_syn_that_waited_is_forgotten_with_its_connection() -> None:
    old, new = Talk(), new_talk()
    seen = Seen()
    flows = Flows(seen.opened)
    lone = old.client(flags=SYN, seq=77)
    for packet in captured([*old.handshake(), lone, old.client(flags=SYN, seq=77), old.server(flags=RST)]):
        flows.packet(packet)
    assert (len(flows._new_syns), seen.flows[0].client.strange, seen.flows[0].client.retransmitted) == (1, 1, 1)
    for packet in captured(new.handshake()):
        flows.packet(packet)
    assert (len(flows._new_syns), len(seen.flows)) == (0, 2)


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        (b"", -1),
        (SCALED, 7),
        (b"\x02\x04\x05\xb4" + SCALED, 7),
        (b"\x04\x02" + SCALED, 7),
        (b"\x03\x03\x0f", 14),
        (b"\x00" + SCALED, -1),
        (b"\x03\x03", -1),
        (b"\x03\x02\x07", -1),
        (b"\x03", -1),
        (b"\x05\x00" + SCALED, -1),
    ],
)
def test_the_window_scale_of_a_syn(options: bytes, scale: int) -> None:
    assert window_scale(options) == scale
