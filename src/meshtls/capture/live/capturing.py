"""The loop of a capture: packets out of the ring, secrets out of the key log, until it is enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from meshtls.capture.live.blocks import Captured
from meshtls.capture.live.ring import Ring

__all__ = ["KeySource", "Piece", "captured"]

#: Milliseconds between two looks at the key log, and at what ends the capture.
_WAIT_MS = 100


class KeySource(Protocol):
    """Where TLS secrets come from while packets do."""

    def more(self) -> bytes:
        """The lines of a key log that came since; b"" for none. Raises ConfigError where it can't be asked."""

    def close(self) -> None:
        """Release what it holds: it is asked no more."""


class Piece(NamedTuple):
    """What came: packets in their order, the lines that a key log got meanwhile, and the time now."""

    packets: list[Captured]
    secrets: bytes
    now_ns: int


def captured(
    ring: Ring, keylog: KeySource | None, seconds: float | None, stopped: Callable[[], bool]
) -> Iterator[Piece]:
    """Pieces of a capture, an empty one ten times a second at least, until ``seconds`` are over or ``stopped()``.

    What the ring has by then comes still. Raises RequestError once the interface is gone, ConfigError for a key log
    that can't be read.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while not stopped() and (end is None or time.monotonic() < end):
        packets = ring.packets(_WAIT_MS)
        # After the packets: what decrypts them was written before most of them.
        yield Piece(packets, keylog.more() if keylog is not None else b"", time.time_ns())
    # A block that is not full is handed over within a fraction of this.
    while packets := ring.packets(_WAIT_MS):
        yield Piece(packets, keylog.more() if keylog is not None else b"", time.time_ns())
    while secrets := keylog.more() if keylog is not None else b"":
        yield Piece([], secrets, time.time_ns())
