"""Writes captured packets to a pcapng file, with the TLS secrets that decrypt them before them. Pure.

A program appends its secrets while its handshake goes on, and a packet may be captured before they are in the file. So
packets are held back for a moment where there is a key log. Our own reader takes secrets that come later, but Wireshark
and tshark decrypt a packet when they read it first, with the secrets that they have by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from meshtls.capture.files.packet import MAX_PACKET
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.live.blocks import Captured

__all__ = ["HELD_BYTES", "HELD_NS", "Limits", "Recording"]

#: For how long a packet waits for its secrets, and the bytes that do at most.
HELD_NS, HELD_BYTES = 1_000_000_000, 16 << 20
#: Bytes of a block of the file besides the packet or the secrets, at most.
_OVERHEAD = 40
#: Bytes of secrets of one file: our reader takes no more.
_MOST_SECRETS = 32 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a recording ends. ``packets``: None for any number. ``size``: bytes of the file."""

    packets: int | None
    size: int


class Recording:
    """One file of one interface.

    - ``packets``, ``size``: what is in it, or waits to be; ``secrets``: lines of key logs.
    - ``full``: why it takes no more packets, "" as long as it does. ``no_room``: what had no room, where the file had
      its size before its first packet.
    """

    def __init__(self, stream: BinaryIO, interface: str, link_type: int, limits: Limits, *, hold: bool) -> None:
        """``hold``: there is a key log."""
        self._stream, self._limits = stream, limits
        self._writer = PcapngWriter(stream)
        self._writer.interface(link_type, interface, MAX_PACKET)
        self._hold_ns = HELD_NS if hold else 0
        self._held: deque[Captured] = deque()
        self._held_bytes = self._secret_bytes = 0
        self.packets = self.secrets = 0
        self.size = 256  # what the section and its interface take, and more
        self.full = self.no_room = ""

    def add_secrets(self, lines: bytes) -> None:
        """Lines of a key log, which count towards the size."""
        if not lines:
            return
        taken = len(lines) + _OVERHEAD
        if self.size + taken > self._limits.size or self._secret_bytes + taken > _MOST_SECRETS:
            self._end("the secrets of the key log take the whole size")
            return
        self._secret_bytes += taken
        self.size += taken
        self.secrets += lines.count(b"\n")
        self._writer.secrets(lines)

    def add(self, packets: Iterable[Captured], now_ns: int) -> None:
        """Packets in the order in which they were captured."""
        for one in packets:
            if self.full:
                break
            taken = len(one.data) + _OVERHEAD
            if self.size + taken > self._limits.size:
                self._end(f"the first packet has {len(one.data)} bytes")
                break
            self.size += taken
            self.packets += 1
            self._held.append(one)
            self._held_bytes += taken
            if self.packets == self._limits.packets:
                self.full = "the file has its packets"
        self._write(now_ns - self._hold_ns)

    def finish(self, now_ns: int, *, received: int, dropped: int) -> None:
        """Write what is held back, and what the kernel counted."""
        self._write(None)
        self._writer.statistics(0, now_ns, received=received, dropped=dropped)
        self._stream.flush()

    def _end(self, no_room: str) -> None:
        self.full = "the file has its size"
        self.no_room = "" if self.packets else no_room

    def _write(self, until_ns: int | None) -> None:
        while self._held and (until_ns is None or self._held[0].time_ns <= until_ns or self._held_bytes > HELD_BYTES):
            time_ns, data, length = self._held.popleft()
            self._held_bytes -= len(data) + _OVERHEAD
            self._writer.packet(0, time_ns, data, length)
