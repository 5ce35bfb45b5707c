"""Which end of a connection is the client, where its SYN was not captured. Bounded. Pure."""

from __future__ import annotations

from meshtls.capture.first_sender import FIRST_BYTES, client_is_sender
from meshtls.capture.flow import Flow, Half

__all__ = ["MOST_SERVERS", "Servers"]

#: Addresses with ports that are remembered.
MOST_SERVERS = 4096


class Servers:
    """The addresses and ports that answered a SYN in this capture: of other connections they are the servers, too."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: dict[bytes, None] = {}

    def answered(self, half: Half) -> None:
        """Whether ``half`` has answered a SYN."""
        end = _end(half)
        self._ends.pop(end, None)
        self._ends[end] = None
        if len(self._ends) > MOST_SERVERS:
            del self._ends[next(iter(self._ends))]

    def client_of(self, flow: Flow) -> tuple[Half, bool]:
        """The client, and whether it is a guess.

        It is the end that calls a server of another connection, or that first bytes of either end show. The end with
        the higher port is a guess: it is wrong where a server's port is above those that clients get, such as 50051.
        """
        if (caller := self.caller(flow)) is not None:
            return caller, False
        for half in flow.halves:
            if (client := client_is_sender(half.early.beginning(FIRST_BYTES))) is not None:
                return (half if client else half.peer), False
        first, second = flow.halves
        return (first if first.key[-4:-2] >= second.key[-4:-2] else second), True

    def caller(self, flow: Flow) -> Half | None:
        """The end that calls a server; None where neither end is known to be one, or both."""
        first, second = flow.halves
        known = _end(first) in self._ends
        if known == (_end(second) in self._ends):
            return None
        return second if known else first

    def __repr__(self) -> str:
        return f"<Servers [{len(self._ends)} known]>"


def _end(half: Half) -> bytes:
    """The address and port of an end, as packets have them."""
    return half.key[: (len(half.key) - 4) // 2] + half.key[-4:-2]
