"""SYNs that come while another connection has the same addresses and ports. Pure.

Anyone can send one in another's name, and a server answers it with an ACK of the connection that it has (RFC 5961,
section 4). So a connection ends by a new one only when the new SYN has been answered as one is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from meshtls.capture.ends import resetting
from meshtls.capture.flow import Half
from meshtls.capture.packets import Segment
from meshtls.capture.sequence import MASK, signed

__all__ = ["NewSyn", "NewSyns", "replaces"]

_SYN, _RST, _ACK = 2, 4, 16
_MOST, _MOST_BYTES = 1024, 2048
_SECOND = 1_000_000_000


class NewSyn(NamedTuple):
    """A SYN that waits for its answer. ``wire``: its packet's bytes on the wire."""

    half: Half
    segment: Segment
    wire: int


def replaces(half: Half, segment: Segment) -> bool:
    """Whether a SYN that is not of this connection replaces it at once: it is over, or nobody else could answer."""
    flow = half.flow
    unanswered = not half.peer.packets and segment.time_ns - half.last_ns > _SECOND
    return flow.closed or unanswered or any(resetting(one) for one in flow.halves)


class NewSyns:
    """The SYNs that wait, at most 1,024, each with no more than 2,048 bytes."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[bytes, NewSyn] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, half: Half, segment: Segment, wire: int) -> None:
        """Count the SYN as a strange packet of the connection that is there, and keep it."""
        before = self._waiting.get(half.key)
        half.packets += 1
        half.wire_bytes += wire
        if before is not None and before.half is half and before.segment.seq == segment.seq:
            half.retransmitted += 1
            return
        half.strange += 1
        self._waiting[half.key] = NewSyn(half, msgspec.structs.replace(segment, data=segment.data[:_MOST_BYTES]), wire)
        if len(self._waiting) > _MOST:
            self._waiting.popitem(last=False)

    def answered(self, half: Half, segment: Segment) -> NewSyn | None:
        """The SYN that this segment answers. It no longer counts as the other connection's, which ends."""
        found = self._waiting.get(half.peer.key)
        if found is None or found.half is not half.peer or not _answers(found, segment):
            found = self._waiting.get(half.key)
            if found is None or found.half is not half or half.peer.packets or not _continues(found, segment):
                return None
        found.half.packets -= 1
        found.half.strange -= 1
        found.half.wire_bytes -= found.wire
        return found

    def forget(self, half: Half) -> None:
        """The connection that ``half`` is of is gone."""
        if (found := self._waiting.get(half.key)) is not None and found.half is half:
            del self._waiting[half.key]

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()


def _answers(syn: NewSyn, segment: Segment) -> bool:
    """A SYN-ACK answers a SYN; an ACK answers a SYN-ACK, if it is none of the connection that is there."""
    half, first, ack = syn.half, syn.segment, segment.ack
    if segment.flags & _RST or not segment.flags & _ACK or not 0 <= signed(ack - first.seq - 1) <= first.span:
        return False
    if not first.flags & _ACK:
        return bool(segment.flags & _SYN)
    old = half.next >= 0 and 0 <= (half.next - ack) & MASK <= (half.next - half.peer.ack) & MASK
    return not segment.flags & _SYN and segment.seq == first.ack and not old


def _continues(syn: NewSyn, segment: Segment) -> bool:
    """The sender of the SYN goes on after it, in a capture without the other direction."""
    ahead = signed(segment.seq - syn.segment.seq - 1)
    return segment.flags & (_SYN | _RST | _ACK) == _ACK and 0 <= ahead <= syn.segment.span
