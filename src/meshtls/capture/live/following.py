"""The connections of a live capture, told of when they open, make a request and are over. Bounded. Pure.

With keys, packets wait a moment: a session looks for its secrets when it sees the ClientHello.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.files.packet import Packet
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.keylog import KeyLog
from meshtls.capture.live.blocks import Captured
from meshtls.capture.live.capturing import Piece
from meshtls.capture.live.recording import HELD_BYTES, HELD_NS
from meshtls.capture.memory import MemoryPool
from meshtls.capture.tcp import Flows
from meshtls.wire.side import Side

__all__ = ["Following", "Told"]


class Told(NamedTuple):
    """What to tell: ``opened`` with a new connection's flow, ``ended`` with the record of one that is over."""

    opened: Callable[[Flow], None]
    ended: Callable[[Connection], None]


class Following:
    """Feed it the pieces of a capture, and then ``finish``."""

    def __init__(self, link_type: int, told: Told, *, hold: bool) -> None:
        """``hold``: there will be keys."""
        self._link_type, self._told = link_type, told
        self._keys = KeyLog() if hold else None
        self._hold_ns = HELD_NS if hold else 0
        self._held: deque[Captured] = deque()
        self._held_bytes = 0
        self._memory = MemoryPool()
        self._flows = Flows(self._opened)
        self.packets = 0

    def take(self, piece: Piece) -> None:
        """What came, and the time."""
        if self._keys is not None and piece.secrets:
            self._keys.feed(piece.secrets)
        for one in piece.packets:
            self._held.append(one)
            self._held_bytes += len(one.data)
        self._pass(piece.now_ns - self._hold_ns)
        self._flows.tick(piece.now_ns - self._hold_ns)

    def finish(self) -> None:
        """The capture has ended, and with it the record of each connection that is open."""
        self._pass(None)
        self._flows.finish()

    def _pass(self, until_ns: int | None) -> None:
        held = self._held
        while held and (until_ns is None or held[0].time_ns <= until_ns or self._held_bytes > HELD_BYTES):
            time_ns, data, length = held.popleft()
            self._held_bytes -= len(data)
            self.packets += 1
            self._flows.packet(Packet(self.packets, time_ns, 0, self._link_type, data, length))

    def _opened(self, flow: Flow) -> _Sink:
        self._told.opened(flow)
        return _Sink(flow, self._keys, self._told, self._memory)


class _Sink(Watched):
    """Tells when both sides have ended."""

    __slots__ = ("_told",)

    def __init__(self, flow: Flow, keys: KeyLog | None, told: Told, memory: MemoryPool) -> None:
        super().__init__(flow, keys, None, memory)
        self._told = told

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        super().ended(side, how, time_ns)
        if not self.open_sides:
            self._told.ended(self.record())
            self.release()
