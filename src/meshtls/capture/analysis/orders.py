"""Whether the steps of a connection are legal in another order of its two directions. Pure.

A capture has each direction in its order. Packets of both directions may be captured in another order than that in
which the sides sent them, such as on two interfaces or by several processors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from meshtls.wire.tls_states import FACTS, NEXT, Event, State, Step

__all__ = ["legal_in_another_order"]

#: What a side that received an illegal message answers: such a message is not put off beyond it.
_REACTIONS = frozenset({Event.FATAL, Event.CLOSE_NOTIFY, Event.ENCRYPTED_ALERT, Event.END, Event.RESET})


def legal_in_another_order(steps: Iterable[Step]) -> bool:
    """Put off the steps of a side that are not legal yet until those of the other side make them legal."""
    state, put_off = State.START, deque[Step]()
    for step in steps:
        side, event = step
        if put_off and side is put_off[0][0]:
            put_off.append(step)
            continue
        after = NEXT[state].get(step)
        if after is None:
            if put_off or event in FACTS:
                return False
            put_off.append(step)
            continue
        if put_off and event in _REACTIONS:
            return False
        state = after
        while put_off and (after := NEXT[state].get(put_off[0])) is not None:
            put_off.popleft()
            state = after
    return not put_off
