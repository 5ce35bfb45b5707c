"""The connections of a live capture, told of when they open, make a request and are over. Bounded. Pure.

With keys, a connection whose secrets have not come when it is over is told a moment later.
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
from meshtls.capture.live.capturing import Piece
from meshtls.capture.memory import MemoryPool
from meshtls.capture.tcp import Flows
from meshtls.wire.side import Side

__all__ = ["LATE_NS", "Following", "Told"]


class Told(NamedTuple):
    """What to tell: ``opened`` with a new connection's flow, ``ended`` with the record of one that is over."""

    opened: Callable[[Flow], None]
    ended: Callable[[Connection], None]


#: How long a connection that is over waits for its secrets, and how many do at most; bytes of one that wait for them.
LATE_NS, _MOST_LATE, _AWAITED = 1_000_000_000, 1024, 1 << 20


class Following:
    """Feed it the pieces of a capture, and then ``finish``."""

    def __init__(self, link_type: int, told: Told, *, keys: bool, most_late: int = _MOST_LATE) -> None:
        """``keys``: there will be some. ``most_late``: connections that are over and wait for them."""
        self._most_late = most_late
        self._link_type, self._told = link_type, told
        self._keys = KeyLog(awaited=_AWAITED) if keys else None
        #: Connections that are over, and until when each waits.
        self._late: deque[tuple[int, _Sink]] = deque()
        self._now_ns = 0
        self._memory = MemoryPool()
        self._flows = Flows(self._opened)
        self.packets = 0

    def take(self, piece: Piece) -> None:
        """What came, and the time."""
        self._now_ns = piece.now_ns
        if self._keys is not None and piece.secrets:
            self._keys.feed(piece.secrets)
        for time_ns, data, length in piece.packets:
            self.packets += 1
            self._flows.packet(Packet(self.packets, time_ns, 0, self._link_type, data, length))
        self._flows.tick(piece.now_ns)
        if self._late:
            self._tell_late()

    def finish(self) -> None:
        """The capture has ended, and with it the record of each connection that is open."""
        self._flows.finish()
        while self._late:
            self._tell(self._late.popleft()[1])

    def _over(self, sink: _Sink) -> None:
        if not sink.conversation.waiting:
            self._tell(sink)
            return
        self._late.append((self._now_ns + LATE_NS, sink))
        if len(self._late) > self._most_late:
            self._tell(self._late.popleft()[1])

    def _tell_late(self) -> None:
        waiting: deque[tuple[int, _Sink]] = deque()
        for until_ns, sink in self._late:
            sink.conversation.look_again()
            if sink.conversation.waiting and until_ns > self._now_ns:
                waiting.append((until_ns, sink))
            else:
                self._tell(sink)
        self._late = waiting

    def _tell(self, sink: _Sink) -> None:
        sink.settle_roles(self._flows.servers)
        self._told.ended(sink.record())
        sink.release()

    def _opened(self, flow: Flow) -> _Sink:
        self._told.opened(flow)
        return _Sink(flow, self._keys, self._memory, self._over)


class _Sink(Watched):
    """Tells when both sides have ended."""

    __slots__ = ("_over",)

    def __init__(self, flow: Flow, keys: KeyLog | None, memory: MemoryPool, over: Callable[[_Sink], None]) -> None:
        super().__init__(flow, keys, None, memory)
        self._over = over

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        super().ended(side, how, time_ns)
        if not self.open_sides:
            self._over(self)
