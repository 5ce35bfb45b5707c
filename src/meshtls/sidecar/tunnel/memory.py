"""The bytes that all tunnels of a sidecar have received and the apps have not taken yet, bounded in total.

Windows are mostly not used up, so their sum may exceed the bound: only bytes that are kept count. Above half of the
bound a tunnel returns its connection's window only for what its apps have taken, and its peer has to wait, as in any
HTTP/2 connection. At the bound the stream that keeps the most is reset: an app that does not read costs its own
streams, and not those of others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.wire.http2.frames import ErrorCode

__all__ = ["DEFAULT_MEMORY", "Keeper", "ReceiveMemory"]

DEFAULT_MEMORY = 1 << 28


class Keeper(Protocol):
    """One stream that keeps bytes for its app."""

    @property
    def kept(self) -> int:
        """How many bytes."""

    def break_off(self, error: Exception, code: ErrorCode) -> None:
        """Reset the stream. It has called ``ReceiveMemory.release`` for all its bytes when this returns."""


class ReceiveMemory:
    """At most ``size`` bytes are kept, by all tunnels that share this."""

    def __init__(self, size: int = DEFAULT_MEMORY) -> None:
        self.size = size
        self.kept = 0
        self._keepers: set[Keeper] = set()
        self._waiting: set[Callable[[], None]] = set()

    @property
    def tight(self) -> bool:
        """More than half of the bound is kept: windows are returned only for what the apps have taken."""
        return self.kept > self.size >> 1

    def keep(self, keeper: Keeper, count: int) -> None:
        """Count bytes that ``keeper.kept`` already includes."""
        self.kept += count
        self._keepers.add(keeper)
        while self.kept > self.size:
            largest = max(self._keepers, key=lambda one: one.kept)
            left = f"the app had left {largest.kept} bytes unread, the most of all streams"
            full = f"receive memory is used up (limits.tunnel_memory={self.size})"
            largest.break_off(EndedError(Outcome.RESET, f"{full}: {left}"), ErrorCode.ENHANCE_YOUR_CALM)

    def release(self, keeper: Keeper, count: int) -> None:
        """Count bytes that ``keeper`` keeps no longer."""
        was_tight = self.tight
        self.kept -= count
        if not keeper.kept:
            self._keepers.discard(keeper)
        if was_tight and not self.tight:
            waiting, self._waiting = self._waiting, set()
            for call in waiting:
                call()

    def when_eased(self, call: Callable[[], None]) -> None:
        """Call once when there is room again."""
        self._waiting.add(call)

    def forget(self, call: Callable[[], None]) -> None:
        """Cancel ``when_eased``."""
        self._waiting.discard(call)

    def __repr__(self) -> str:
        return f"<ReceiveMemory [{self.kept} of {self.size} bytes, {len(self._keepers)} streams]>"
