"""TCP's sequence numbers, of 32 bits (RFC 9293, section 3.4), and the windows that a receiver announces. Pure.

A window is known only with its scale, which the SYNs of both ends have (RFC 7323). Where these were not captured it may
be as large as any.
"""

from __future__ import annotations

from meshtls.capture.flow import Half

__all__ = ["MASK", "MAX_WINDOW", "MODULUS", "announced", "front", "in_order", "room", "signed", "window_scale"]

MODULUS = 1 << 32
MASK, _HALF = MODULUS - 1, MODULUS >> 1
_LARGEST_SCALE = 14
#: No window is larger (RFC 7323, section 2.3).
MAX_WINDOW = 1 << 30
_END, _NO_OPERATION, _WINDOW_SCALE = 0, 1, 3


def signed(difference: int) -> int:
    """How far ahead one sequence number is of another, from their difference; negative if it is behind."""
    return ((difference + _HALF) & MASK) - _HALF


def window_scale(options: bytes) -> int:
    """The shift that a SYN's options announce (RFC 7323, section 2.2); -1 if there is none."""
    at = 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NO_OPERATION:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if options[at] == _WINDOW_SCALE and size == 3 and at + 2 < len(options):
            return min(options[at + 2], _LARGEST_SCALE)
        if size < 2:
            break
        at += size
    return -1


def announced(half: Half) -> int:
    """The window that ``half`` announced last, in bytes: the largest that it can be."""
    ours, theirs = half.scale, half.peer.scale
    if ours == -1 or theirs == -1:
        return half.window
    return min(half.window << (_LARGEST_SCALE if ours is None else ours), MAX_WINDOW)


def room(half: Half) -> tuple[int, int]:
    """How far ahead of ``half.next`` its peer has acknowledged, and the window that the peer lets it use from there.

    ``half.next`` has to be known. Both are at least 0. Without any acknowledgement nothing else is known, so that the
    window is the largest.
    """
    peer = half.peer
    if peer.first_ack is None:
        return 0, MAX_WINDOW
    return max(0, signed(peer.ack - half.next)), announced(peer)


def in_order(half: Half) -> int:
    """How many bytes wait that none is missing in front of. ``half.next`` has to be known."""
    runs, base = half.early.runs, signed(half.early.base - half.next)
    return base + runs[0].end if runs and base + runs[0].start <= 0 else 0


def front(half: Half) -> int:
    """The sequence number after the bytes that came in order, whether they were delivered or wait; -1 if not known."""
    return (half.next + in_order(half)) & MASK if half.early.runs and half.next >= 0 else half.next
