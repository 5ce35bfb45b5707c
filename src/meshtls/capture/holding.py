"""When the bytes of both sides wait together, and in which order they are delivered then. Pure.

They do while it is not known where the bytes of a side begin, or while bytes are missing that their receiver has
acknowledged. In both cases a side may have sent what it sent in answer to bytes that are not delivered yet, and whoever
judges by the order of events would be misled if the answer came first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from meshtls.capture.ends import contradicted, nearest
from meshtls.capture.flow import End, Flow, Half
from meshtls.capture.segments import Chunk
from meshtls.capture.sequence import MODULUS, in_order, signed

__all__ = ["Held", "lacks", "passed", "take_held", "undecided"]


class Held(NamedTuple):
    """Something that waited.

    - ``number``, ``time_ns``: those of the packet that it came in, or of one that came before and is delivered later.
    - ``missing``: bytes that are lost in front of it.
    """

    number: int
    time_ns: int
    half: Half
    missing: int
    what: Chunk | End


def undecided(half: Half) -> bool:
    """Whether it is not known where the bytes begin that it has sent."""
    return half.next < 0 and bool(half.early.runs or half.ends)


def passed(half: Half) -> bool:
    """Whether the receiver has acknowledged the first byte that was not delivered."""
    return half.next >= 0 and _acknowledged(half) > 0


def lacks(half: Half) -> bool:
    """Whether bytes are missing, in front of others or of an end, the first of which its receiver has acknowledged."""
    acknowledged = _acknowledged(half)
    if half.next < 0 or half.ending is not None or acknowledged <= 0:
        return False
    runs, hole, end = half.early.runs, in_order(half), nearest(half)
    behind = len(runs) > (hole > 0)
    if end is not None and not contradicted(half, end):
        if signed(end.at - half.next) <= hole:
            return False
        behind = True
    return behind and acknowledged > hole


def take_held(flow: Flow) -> list[Held]:
    """All that waits in both directions and may be delivered, in the order of the capture. A direction ends with its
    first end, or before bytes that are missing and not acknowledged, which may still come."""
    found = [held for half in flow.halves if half.next >= 0 and half.ending is None for held in _take(half)]
    found.sort(key=_number)
    return found


def _take(half: Half) -> Iterator[Held]:
    early, end = half.early, nearest(half)
    base, acknowledged = signed(early.base - half.next), _acknowledged(half)
    to_end = MODULUS if end is None else signed(end.at - half.next)
    number, time_ns = half.after
    at = 0
    while early.runs or end is not None:
        start = min(base + early.runs[0].start if early.runs else MODULUS, to_end)
        missing = start - at
        if missing > 0 and at >= acknowledged:
            return
        if end is not None and start == to_end:
            number, time_ns = max((number, time_ns), (end.number, end.time_ns))
            yield Held(number, time_ns, half, missing, end)
            return
        run = early.pop(to_end - start)
        at = base + run.end
        for chunk in run.chunks:
            # Those that came before the bytes in front of them come with these.
            number, time_ns = max((number, time_ns), (chunk.number, chunk.time_ns))
            yield Held(number, time_ns, half, missing, chunk)
            missing = 0


def _acknowledged(half: Half) -> int:
    """How many bytes that were not delivered its receiver has acknowledged."""
    peer = half.peer
    return signed(peer.ack - half.next) if peer.first_ack is not None else 0


def _number(held: Held) -> int:
    return held.number
