"""A link between two networks that loses, repeats, delays and reorders packets: TUN devices and what is between them.

It does what ``tc netem`` does, on kernels that have none, and knows of each packet what became of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from meshtls.wire.side import Side

__all__ = ["FAULTY", "Fate", "Faults", "LossyLink", "Tally", "opened_tun"]

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MOST_BYTES = 1 << 16
_TCP = 6


class Faults(NamedTuple):
    """What the link does to packets: probabilities, and times in milliseconds.

    ``late_ms``: how much longer a packet that others shall overtake is held.
    """

    loss: float
    duplicate: float
    late: float
    delay_ms: float
    late_ms: float


FAULTY = Faults(loss=0.04, duplicate=0.04, late=0.06, delay_ms=4, late_ms=9)


class Fate(NamedTuple):
    """What becomes of one packet: for each copy that arrives, after how many milliseconds. ``words``: why so."""

    after_ms: tuple[float, ...]
    words: str

    @classmethod
    def of(cls, faults: Faults, chance: random.Random) -> Fate:
        """Of the next packet."""
        drawn = chance.random()
        if drawn < faults.loss:
            return cls((), "lost")
        if drawn < faults.loss + faults.duplicate:
            return cls((faults.delay_ms, faults.delay_ms), "duplicated")
        if drawn < faults.loss + faults.duplicate + faults.late:
            return cls((faults.delay_ms + faults.late_ms,), "late")
        return cls((faults.delay_ms,), "passed")


class Tally(NamedTuple):
    """TCP packets by the port of the server, the side that sent them, and what became of them."""

    counts: Counter[tuple[int, str, str]]

    def add(self, side: Side, packet: bytes, words: str) -> None:
        """Count this IP packet, if it is of TCP."""
        at = 20 if packet[0] >> 4 == 4 else 40
        if packet[9 if at == 20 else 6] == _TCP:
            ports = struct.unpack_from("!HH", packet, at)
            self.counts[ports[1 if side is Side.CLIENT else 0], side.value, words] += 1

    def rows(self) -> list[tuple[int, str, str, int]]:
        """As JSON has it."""
        return [(*key, count) for key, count in sorted(self.counts.items())]


class LossyLink:
    """Takes packets from the TUN device of either side to that of the other one, while the event loop runs.

    ``mark``: with these bytes in it a packet is the last of its side that counts.
    """

    def __init__(self, ends: dict[Side, int], faults: Faults, seed: int, mark: bytes) -> None:
        self._ends, self._faults, self._mark = ends, faults, mark
        self._chance = random.Random(seed)  # noqa: S311  # the same faults each time
        self.tally = Tally(Counter())
        self._over: set[Side] = set()
        self._cut = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Carry packets while the body runs."""
        loop = asyncio.get_running_loop()
        for side, end in self._ends.items():
            os.set_blocking(end, False)
            loop.add_reader(end, self._take, side)
        try:
            yield
        finally:
            for end in self._ends.values():
                loop.remove_reader(end)

    def cut(self) -> None:
        """From now on every packet is lost; those under way, too."""
        self._cut = True

    def _take(self, side: Side) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                packet = os.read(self._ends[side], _MOST_BYTES)
            except BlockingIOError:
                return
            if self._mark in packet:
                self._over.add(side)
            if side in self._over:
                continue
            fate = Fate((), "lost") if self._cut else Fate.of(self._faults, self._chance)
            if not fate.after_ms:
                self.tally.add(side, packet, fate.words)
            for number, after_ms in enumerate(fate.after_ms):
                words = fate.words if number == 0 else "copied"
                loop.call_later(after_ms / 1000, self._arrive, side, packet, words)

    def _arrive(self, side: Side, packet: bytes, words: str) -> None:
        if not self._cut:
            os.write(self._ends[side.other], packet)
        self.tally.add(side, packet, words if not self._cut else "lost" if words != "copied" else "copy lost")


def opened_tun(name: str) -> int:
    """A new TUN device with this name in the network of the calling thread; reading it gives what is sent there."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end
