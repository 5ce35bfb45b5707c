"""Where one direction of a TCP connection ends: the FINs and RSTs that say so, and which of them stands. Pure.

Anyone on the way can send a FIN or a RST in another's name, and a receiver accepts neither outside of its window (RFC
9293, section 3.10.7.4; RFC 5961, section 3). A capture does not show what the receiver did, but how it went on: an end
does not stand if its receiver acknowledges bytes after it, nor does a RST if its sender acknowledges bytes that came
after it. So a RST stands only once it was not contradicted for a while.
"""

from __future__ import annotations

from meshtls.capture.flow import End, Ending, Half
from meshtls.capture.packets import Segment
from meshtls.capture.sequence import announced, front, room, signed

__all__ = ["MOST_ENDS", "contradicted", "lives_on", "may_be_sent", "nearest", "reset_counts", "resetting"]

#: Ends of one direction that are considered at a time.
MOST_ENDS = 4
_ACK = 16
#: The least window that data and a FIN are measured by.
_LEAST_WINDOW = 1 << 16
#: How far a RST may be from the bytes before it, where the other direction was not captured.
_UNSEEN = 1 << 24


def may_be_sent(half: Half, ahead: int) -> bool:
    """Whether ``half`` may send so far ahead of ``half.next``.

    Twice the window is allowed: acknowledgements are captured late, or not at all.
    """
    acknowledged, window = room(half)
    return ahead <= acknowledged + 2 * max(window, _LEAST_WINDOW)


def reset_counts(half: Half, segment: Segment) -> bool:
    """Whether a receiver may accept this RST of ``half``, by what both have sent before it.

    - It answers a SYN: it has to acknowledge it.
    - Otherwise it has to be in the window: from the last acknowledgement, or from the last byte before it, on.
    """
    peer = half.peer
    if peer.first_ack is None and peer.isn is not None and half.next < 0:
        return bool(segment.flags & _ACK) and 0 <= signed(segment.ack - peer.isn - 1) <= signed(
            peer.next - peer.isn - 1
        )
    if half.next < 0:
        return peer.first_ack is None or 0 <= signed(segment.seq - peer.ack) <= announced(peer)
    ahead = signed(segment.seq - half.next)
    if peer.first_ack is None:
        return abs(ahead) <= _UNSEEN
    acknowledged, window = room(half)
    return min(0, signed(peer.ack - half.next)) <= ahead <= acknowledged + window


def nearest(half: Half) -> End | None:
    """The first end from ``half.next`` on; a FIN before a RST at the same place."""
    if len(half.ends) < 2:
        return half.ends[0] if half.ends else None
    return min(half.ends, key=lambda end: (signed(end.at - half.next), end.how is Ending.RESET))


def contradicted(half: Half, end: End) -> bool:
    """Whether the receiver has acknowledged bytes after this end. A FIN itself counts as one byte."""
    peer = half.peer
    return peer.first_ack is not None and signed(peer.ack - end.at) > (end.how is Ending.FIN)


def lives_on(end: End, ack: int, time_ns: int, reordered_ns: int) -> bool:
    """Whether this acknowledgement, by the sender of a RST, shows that the RST was not its own: it acknowledges what
    came after the RST, and was not merely captured out of order."""
    return (
        end.how is Ending.RESET
        and end.heard is not None
        and signed(ack - end.heard) > 0
        and time_ns - end.time_ns > reordered_ns
    )


def resetting(half: Half) -> bool:
    """Whether a RST of this direction has been reached, and still has to stand."""
    return bool(half.ends) and any(
        end.how is Ending.RESET and (half.ending is not None or signed(front(half) - end.at) >= 0) for end in half.ends
    )
