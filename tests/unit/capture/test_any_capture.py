"""Whatever a capture makes of two known streams, what is told of them is right: their bytes, and what is missing."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from meshtls.capture.flow import Ending
from meshtls.capture.tcp import Limits
from meshtls.wire.side import Side
from tests.support.packets import ACK, FIN, SYN, Kept, Talk, captured, read

#: The lengths of segments, whose sides alternate as drawn.
Sizes = list[tuple[Side, int]]


class Sent(NamedTuple):
    """A frame, and which bytes of whose stream are in it."""

    frame: bytes
    side: Side
    begin: int
    end: int
    flags: int


def stream(side: Side, size: int) -> bytes:
    """Bytes of which each position differs from those near it."""
    start = 7 if side is Side.CLIENT else 131
    return bytes((start + at * 11 + at // 251) % 256 for at in range(size))


def conversation(sizes: Sizes, isns: tuple[int, int]) -> tuple[Talk, list[Sent], dict[Side, bytes]]:
    """What two ends send, in order: handshake, segments of these sizes, each acknowledged, and both closes."""
    whole = {side: stream(side, sum(size for of, size in sizes if of is side)) for side in Side}
    talk, sent, at = Talk(isns=isns), [], dict.fromkeys(Side, 0)

    def send(side: Side, size: int, flags: int) -> None:
        begin = at[side]
        at[side] += size
        frame = talk.send(side, whole[side][begin : begin + size], flags)
        sent.append(Sent(frame, side, begin, begin + size, flags))

    send(Side.CLIENT, 0, SYN)
    send(Side.SERVER, 0, SYN | ACK)
    send(Side.CLIENT, 0, ACK)
    for side, size in sizes:
        send(side, size, ACK)
        send(side.other, 0, ACK)
    send(Side.CLIENT, 0, FIN | ACK)
    send(Side.SERVER, 0, FIN | ACK)
    send(Side.CLIENT, 0, ACK)
    return talk, sent, whole


def sizes_of_segments() -> st.SearchStrategy[Sizes]:
    return st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 40)), max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Sent], dict[Side, bytes]]:
    """In order, and with ranges that are sent again at any time after they were sent, cut in any other way."""
    isns = draw(st.tuples(*[st.integers(0, 2**32 - 1) | st.integers(2**32 - 200, 2**32 - 1)] * 2))
    talk, sent, whole = conversation(draw(sizes_of_segments()), isns)
    for _ in range(draw(st.integers(0, 4))):
        after = draw(st.integers(3, len(sent)))
        side = draw(st.sampled_from(Side))
        have = max(one.end for one in sent[:after] if one.side is side)
        begin = draw(st.integers(0, have))
        end = draw(st.integers(begin, have))
        if begin < end:
            frame = talk.send(side, whole[side][begin:end], seq=talk.isn[side] + 1 + begin)
            sent.insert(after, Sent(frame, side, begin, end, ACK))
    return sent, whole


def fits(told: list[bytes | int], whole: bytes, at: int) -> bool:
    """Whether what was told is of the stream, if it begins at its byte ``at``."""
    for one in told:
        if isinstance(one, bytes):
            if whole[at : at + len(one)] != one:
                return False
            at += len(one)
        else:
            at += one
    # An acknowledged FIN that was not captured looks as one byte more.
    return at <= len(whole) + (bool(told) and isinstance(told[-1], int))


def missing(sent: list[Sent], side: Side, size: int) -> list[bool]:
    """For each byte of the stream, whether no packet has it."""
    has = [False] * size
    for one in sent:
        if one.side is side:
            has[one.begin : one.end] = [True] * (one.end - one.begin)
    return [not one for one in has]


def told_missing(kept: Kept, side: Side) -> list[bool]:
    found: list[bool] = []
    for one in kept.stream(side):
        found += [False] * len(one) if isinstance(one, bytes) else [True] * one
    return found


def shuffled(data: st.DataObject, sent: list[Sent], displacement: int) -> list[Sent]:
    keys = [at + data.draw(st.integers(0, displacement)) for at in range(len(sent))]
    return [sent[at] for at in sorted(range(len(sent)), key=lambda at: (keys[at], at))]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_reordered_repeated_and_cut_in_another_way_the_streams_are_whole(data: st.DataObject) -> None:
    sent, whole = data.draw(conversations())
    order = shuffled(data, sent, 5)
    seen, flows = read(captured([one.frame for one in order]), through_a_file=False)
    [flow], [kept] = seen.flows, seen.sinks

    for side in Side:
        assert kept.stream(side) == ([whole[side]] if whole[side] else [])
        assert kept.ending(side) is Ending.FIN
    for half in flow.halves:
        assert half.bytes == len(whole[half.side])
        assert (half.lost_bytes, half.cut_bytes, half.conflicts, half.duplicated, half.strange) == (0, 0, 0, 0, 0)
    # An ACK before the SYN is of no connection that is known yet.
    assert sum(half.packets for half in flow.halves) + flows.totals.without_flow == len(sent)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_only_bytes_that_no_packet_has_are_reported_as_missing(data: st.DataObject) -> None:
    _, sent, whole = conversation(
        data.draw(sizes_of_segments()), data.draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
    )
    kept_ones = [one for one in sent if one.flags & SYN or data.draw(st.integers(0, 3))]
    order = shuffled(data, kept_ones, 4)
    seen, _ = read(captured([one.frame for one in order]), through_a_file=False)
    [flow], [kept] = seen.flows, seen.sinks

    acknowledged = dict.fromkeys(Side, 0)
    for half in flow.halves:
        size = len(whole[half.side])
        expected = missing(kept_ones, half.side, size)
        told = told_missing(kept, half.side)
        if len(told) == size + 1 and not any(one.side is half.side and one.flags & FIN for one in kept_ones):
            assert told.pop()  # the number of the FIN, which was acknowledged, looks as a byte does
            half.lost_bytes -= 1
        assert told == expected[: len(told)]
        # What nothing shows to have been sent can't be missed: no later byte, no FIN and no acknowledgement of it.
        assert all(expected[len(told) :])
        assert half.lost_bytes == sum(told)
        acknowledged[half.side] = len(told)
    for side in Side:
        last = max((one.end for one in kept_ones if one.side is side and one.begin < one.end), default=0)
        fin = any(one.side is side and one.flags & FIN for one in kept_ones)
        assert acknowledged[side] >= (len(whole[side]) if fin else last)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_in_any_order_with_any_loss_nothing_is_told_that_was_not_sent(data: st.DataObject) -> None:
    sent, whole = data.draw(conversations())
    order = data.draw(st.permutations(sent))[: data.draw(st.integers(0, len(sent)))]
    if data.draw(st.booleans()):
        order += order[: len(order) // 2]
    packets = captured([one.frame for one in order])
    seen, flows = read(packets, Limits(flows=data.draw(st.sampled_from((1, 1000)))), through_a_file=False)

    for flow, kept in zip(seen.flows, seen.sinks, strict=True):
        turned = flow.client.address.port != 40000  # without a SYN who is the client was guessed
        assert not turned
        for side in Side:
            told = kept.stream(side)
            assert any(fits(told, whole[side], start) for start in range(len(whole[side]) + 1)), (side, told)
            assert kept.ending(side) is not None
            assert kept.events[-1][0] == "ended"
    counted = sum(half.packets + half.duplicated for flow in seen.flows for half in flow.halves)
    assert counted + flows.totals.without_flow == len(packets)
    assert repr(flows) == "<Flows [0 connections, 0 bytes wait]>"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_joined_in_the_middle_the_streams_are_told_from_there(data: st.DataObject) -> None:
    _, sent, whole = conversation(
        data.draw(sizes_of_segments()), data.draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
    )
    order = shuffled(data, sent[data.draw(st.integers(3, len(sent) - 3)) :], 3)
    seen, _ = read(captured([one.frame for one in order]), through_a_file=False)

    left = {side: sum(one.end - one.begin for one in order if one.side is side) for side in Side}
    [flow], [kept] = seen.flows, seen.sinks
    assert not flow.from_start
    for side in Side:
        assert kept.stream(side) == ([whole[side][-left[side] :]] if left[side] else [])
        assert kept.ending(side) is Ending.FIN


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_each_packet_captured_twice_is_counted_once(data: st.DataObject) -> None:
    sent, _ = data.draw(conversations())
    twice = [one for one in sent for _ in range(2)]
    order = shuffled(data, twice, 3)
    once, _ = read(captured([one.frame for one in sent]), through_a_file=False)
    seen, _ = read(captured([one.frame for one in order], every_ns=1000), through_a_file=False)

    [flow], [kept], [plain] = seen.flows, seen.sinks, once.sinks
    for side in Side:
        assert kept.stream(side) == plain.stream(side)
    assert sum(half.duplicated for half in flow.halves) == len(sent)
    assert sum(half.packets for half in flow.halves) == len(sent)
