"""Puts fragments of IP packets together again, in bounded memory. Pure.

Fragments that overlap are no accident: hosts drop the whole packet (RFC 5722 for IPv6, and Linux for IPv4 too), so it
is dropped here. The same fragment twice counts once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

__all__ = ["Fragments", "Whole"]

_MAX_PAYLOAD = 65_535
#: What one fragment costs besides its bytes.
_OVERHEAD = 160
_SECOND = 1_000_000_000
#: Hosts give up after so long: 30 s on Linux, up to 60 s by RFC 8200.
_LIFETIME_NS = 60 * _SECOND


class Whole(NamedTuple):
    """A packet that is complete.

    - ``wire``: bytes of all its fragments as the link carried them, headers included, each as often as it came.
    """

    protocol: int
    payload: bytes
    wire: int


class _Parts:
    """The fragments of one packet by their offsets."""

    __slots__ = ("cost", "first_ns", "have", "pieces", "protocol", "total", "wire")

    def __init__(self, time_ns: int) -> None:
        self.pieces: dict[int, bytes] = {}
        self.have = self.cost = self.protocol = self.wire = 0
        self.total: int | None = None
        self.first_ns = time_ns


class Fragments:
    """Fragments that wait for the rest of their packet.

    - ``received``: fragments; ``whole``: packets that became complete; ``dropped``: packets that did not.
    """

    def __init__(self, max_bytes: int = 1 << 22) -> None:
        """``max_bytes``: of memory for all of them. The packets that wait for longest are dropped first."""
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[bytes, _Parts] = OrderedDict()
        self._cost = 0
        self.received = self.whole = self.dropped = 0

    def __repr__(self) -> str:
        return f"<Fragments [{len(self._waiting)} packets, {self._cost} bytes]>"

    def add(
        self, key: bytes, protocol: int, offset: int, more: bool, payload: bytes, *, cut: bool, time_ns: int, wire: int
    ) -> Whole | None:
        """The packet that this fragment completes, if it does.

        ``key``: what all fragments of a packet have in common. ``cut``: the fragment was not captured whole, so that
        the packet can never be complete. ``wire``: the length of the fragment on the link, with all headers.
        """
        self.received += 1
        parts = self._waiting.get(key)
        if parts is not None and abs(time_ns - parts.first_ns) > _LIFETIME_NS:
            self._drop(key)
            parts = None
        if parts is None:
            parts = self._waiting[key] = _Parts(time_ns)
        parts.wire += wire
        if parts.pieces.get(offset) == payload and (more or parts.total is not None):
            return None
        end = offset + len(payload)
        odd = more and (len(payload) % 8 or not payload)
        if cut or odd or end > _MAX_PAYLOAD or offset in parts.pieces or (not more and parts.total is not None):
            self._drop(key)
            return None
        cost = len(payload) + _OVERHEAD
        parts.pieces[offset] = payload
        parts.have += len(payload)
        parts.cost += cost
        self._cost += cost
        if offset == 0:
            parts.protocol = protocol
        if not more:
            parts.total = end
        if parts.total is not None and parts.have >= parts.total:
            return self._finished(key, parts)
        while self._cost > self._max_bytes:
            self._drop(next(iter(self._waiting)))
        return None

    def _finished(self, key: bytes, parts: _Parts) -> Whole | None:
        at, pieces = 0, []
        for offset, piece in sorted(parts.pieces.items()):
            if offset != at:
                self._drop(key)
                return None
            pieces.append(piece)
            at += len(piece)
        self._drop(key)
        self.dropped -= 1
        self.whole += 1
        return Whole(parts.protocol, b"".join(pieces), parts.wire)

    def _drop(self, key: bytes) -> None:
        self._cost -= self._waiting.pop(key).cost
        self.dropped += 1
