"""Reassembly against a small model of TCP's delivery: whatever is cut, sent again, lost, forged or ended.

Two ends and a network that loses, repeats and reorders segments; an observer beside one of them, who loses and reorders
packets of its own; and someone who forges segments outside of the window. The model's receivers accept what RFC 9293
and RFC 5961 let them accept. What the observer is told is a part of what was sent, with each gap as long as it says,
and a connection that was not reset is not told as one that was. The numbers of packets never go back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from meshtls.capture.flow import Ending
from meshtls.wire.side import Side
from tests.support.packets import ACK, FIN, MS, RST, SYN, Kept, Talk, captured, read

WINDOW = 300
_SEEDS = 300
#: Kinds of forged segments. Each is outside of the window, or a SYN that nobody answers as one.
FORGED = ("data", "fin", "rst", "syn")


class Sent(NamedTuple):
    """A segment on the network: a range of a stream, with FIN or without."""

    side: Side
    begin: int
    end: int
    fin: bool
    frame: bytes


@dataclass
class Model:
    """Two ends of a connection. ``got``: how far each end has the other's bytes in order; ``waits``: those beyond."""

    talk: Talk
    streams: dict[Side, bytes]
    sent: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    got: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    waits: dict[Side, set[int]] = field(default_factory=lambda: {side: set() for side in Side})
    closed: set[Side] = field(default_factory=set)
    reset_by: Side | None = None

    def seq(self, side: Side, at: int) -> int:
        return (self.talk.isn[side] + 1 + at) % 2**32

    def segment(self, side: Side, begin: int, end: int, *, fin: bool = False, rst: bool = False) -> Sent:
        """A segment of ``side``, which acknowledges what it has received."""
        flags = ACK | (FIN if fin else 0) | (RST if rst else 0)
        ack = self.seq(side.other, self.got[side])
        payload = self.streams[side][begin:end]
        frame = self.talk.send(side, payload, flags, seq=self.seq(side, begin), ack=ack, window=WINDOW)
        return Sent(side, begin, end, fin, frame)

    def receive(self, one: Sent) -> None:
        """Its receiver takes it. A FIN is one position more than the stream has."""
        receiver = one.side.other
        self.waits[receiver].update(range(one.begin, one.end + one.fin))
        while self.got[receiver] in self.waits[receiver]:
            self.got[receiver] += 1


def forged(chance: random.Random, model: Model) -> bytes:
    """A segment in the name of one end that the other can't accept."""
    side = chance.choice(list(Side))
    kind = chance.choice(FORGED[:3] if model.closed else FORGED)  # a SYN replaces a connection that is closed
    # From behind what is acknowledged, and from beyond twice the least window that is measured by.
    ahead = chance.choice((chance.randrange(1 << 18, 1 << 31), -chance.randrange(1 << 12, 1 << 31)))
    seq = model.seq(side, model.sent[side] + ahead)
    if kind == "data":
        return model.talk.send(side, b"forged", ACK, seq=seq, ack=model.seq(side.other, model.got[side]))
    flags = {"fin": FIN | ACK, "rst": RST, "syn": SYN}[kind]
    return model.talk.send(side, flags=flags, seq=seq, ack=model.seq(side.other, model.got[side]))


@dataclass
class Run:
    """What the network carried, in order."""

    model: Model
    frames: list[bytes]


def run(chance: random.Random, *, forging: bool, losing: bool) -> Run:
    """A conversation, step by step."""
    isns = (chance.randrange(2**32 - 200, 2**32), chance.randrange(2**32))
    talk = Talk(isns=isns)
    streams = {
        side: bytes((at * 7 + at // 251 + 128 * (side is Side.SERVER)) % 256 for at in range(400)) for side in Side
    }
    model = Model(talk, streams)
    frames: list[bytes] = [*talk.handshake()]

    def carry(one: Sent, *, lost: bool = False) -> None:
        frames.append(one.frame)
        if not lost:
            model.receive(one)

    for _ in range(chance.randint(0, 14)):
        side = chance.choice(list(Side))
        step = chance.choice(("send", "send", "send", "again", "ack", "forge", "fin"))
        sent = model.sent[side]
        if step == "send" and side not in model.closed:
            room = min(len(streams[side]), model.got[side.other] + WINDOW) - sent
            size = min(chance.randint(1, 60), room)
            if size > 0:
                model.sent[side] += size
                carry(model.segment(side, sent, sent + size), lost=losing and chance.random() < 0.5)
        elif step == "again" and sent:
            begin = chance.randint(0, sent - 1)
            end = chance.randint(begin + 1, min(sent, begin + 80))
            carry(model.segment(side, begin, end), lost=losing and chance.random() < 0.5)
        elif step == "ack":
            carry(model.segment(side, sent + (side in model.closed), sent + (side in model.closed)))
        elif step == "forge" and forging:
            frames.append(forged(chance, model))
        elif step == "fin" and side not in model.closed:
            model.closed.add(side)
            carry(model.segment(side, sent, sent, fin=True))
    # What was lost is sent again until it is received and acknowledged.
    for side in Side:
        if model.got[side.other] < model.sent[side]:
            carry(model.segment(side, model.got[side.other], model.sent[side]))
        if side in model.closed:
            carry(model.segment(side, model.sent[side], model.sent[side], fin=True))
    for side in Side:
        at = model.sent[side] + (side in model.closed)
        carry(model.segment(side, at, at))
    return Run(model, frames)


def length_told(kept: Kept, side: Side, whole: bytes) -> int:
    """How far the stream was told, gaps included; each byte of it has been compared."""
    at = 0
    for one in kept.stream(side):
        if isinstance(one, bytes):
            assert whole[at : at + len(one)] == one
            at += len(one)
        else:
            at += one
    return at


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_with_forged_segments_the_streams_are_whole_and_end_as_they_did(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # the same conversations each time
    made = run(chance, forging=True, losing=chance.random() < 0.5)
    seen, _ = read(captured(made.frames), through_a_file=False)
    [flow], [kept] = seen.flows, seen.sinks
    for side in Side:
        whole = made.model.streams[side][: made.model.sent[side]]
        assert kept.stream(side) == ([whole] if whole else [])
        assert kept.ending(side) is (Ending.FIN if side in made.model.closed else Ending.CAPTURE_END)
    assert sum(half.lost_bytes + half.conflicts for half in flow.halves) == 0


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_a_reset_ends_both_streams_after_what_was_sent_before_it(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # the same conversations each time
    made = run(chance, forging=True, losing=False)
    model = made.model
    if set(Side) <= model.closed:
        return
    side = chance.choice(list(Side))
    at = model.sent[side] + (side in model.closed)
    rst = model.segment(side, at, at, rst=True)
    seen, _ = read(captured([*made.frames, rst.frame]), through_a_file=False)
    [kept] = seen.sinks
    for one in Side:
        whole = model.streams[one][: model.sent[one]]
        assert kept.stream(one) == ([whole] if whole else [])
        how = Ending.RESET if one is side else Ending.PEER_RESET
        assert kept.ending(one) is (Ending.FIN if one in model.closed else how)


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_an_observer_that_loses_packets_is_told_bytes_of_the_streams_alone(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # the same conversations each time
    made = run(chance, forging=chance.random() < 0.5, losing=chance.random() < 0.5)
    frames = [*made.frames[:3], *(frame for frame in made.frames[3:] if chance.randint(0, 4))]
    keys = [at + chance.randint(0, 3) for at in range(len(frames))]
    frames = frames[:3] + [frames[at] for at in sorted(range(3, len(frames)), key=lambda at: (keys[at], at))]
    seen, _ = read(captured(frames, every_ns=MS // 10), through_a_file=False)
    [flow], [kept] = seen.flows, seen.sinks
    numbers = [number for number in kept.numbers if number]  # 0 where the capture's end closed a hole
    assert numbers == sorted(numbers)
    for half in flow.halves:
        whole = (
            made.model.streams[half.side][: made.model.sent[half.side]] + b"\0"
        )  # an unseen FIN looks as a byte does
        assert length_told(kept, half.side, whole) <= len(whole)
        assert half.lost_bytes == sum(one for one in kept.stream(half.side) if isinstance(one, int))
        assert kept.ending(half.side) in (Ending.FIN, Ending.CAPTURE_END)
        assert kept.ending(half.side) is Ending.CAPTURE_END or half.side in made.model.closed
