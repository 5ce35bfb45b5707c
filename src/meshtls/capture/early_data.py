"""0-RTT data (RFC 8446, section 2.3), which waits until it is known whether the server accepts it. Bounded. Pure.

What the server rejects it skips, and does not deliver: the client has to send it again, or not. So rejected early data
is neither application data nor part of what is read inside.
"""

from __future__ import annotations

from meshtls.capture.memory import Level, MemoryShare

__all__ = ["EarlyData"]

#: Bytes that wait at most; of more, what follows counts as lost where it is accepted.
_MOST_HELD = 1 << 16


class EarlyData:
    """The early data of one connection, until the answer.

    - ``bytes``: of all that was sent.
    - ``whole``: all of it waits.
    """

    __slots__ = ("_held", "_level", "bytes", "whole")

    def __init__(self, memory: MemoryShare) -> None:
        self._held: list[tuple[bytes, int]] = []
        self._level = Level(memory)
        self.bytes = 0
        self.whole = True

    def hold(self, content: bytes, time_ns: int) -> None:
        """Hold the content of one more record."""
        self.bytes += len(content)
        self.whole = self.whole and self.bytes <= _MOST_HELD and self._level.to(self.bytes)
        if self.whole:
            self._held.append((content, time_ns))

    def taken(self) -> list[tuple[bytes, int]]:
        """What waits, each with its time: it waits no more."""
        held, self._held = self._held, []
        self._level.to(0)
        return held

    def __repr__(self) -> str:
        return f"<EarlyData [{self.bytes} bytes]>"
