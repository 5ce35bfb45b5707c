"""A plaintext end that gives away what it sends and receives, for ``insecure_capture``: that of a client or a peer that
speaks no TLS, never that of our own app.
"""

from __future__ import annotations

import socket
from functools import partial

from meshtls.sidecar.ends import LARGE, PlainEnd
from meshtls.sidecar.reactor import Buffers
from meshtls.sidecar.wire_file import WireFile, WireTap, ends_of
from meshtls.wire.side import Side

__all__ = ["RecordedPlainEnd", "network_end"]


def network_end(
    sock: socket.socket, name: str, buffers: Buffers, first: bytes = b"", *, ours: Side, file: WireFile | None
) -> PlainEnd:
    """The end of a plaintext connection over the network. ``ours``: which side we are. ``file``: where it is written,
    if it is.
    """
    if file is None:
        return PlainEnd(sock, name, buffers, first)
    return RecordedPlainEnd(sock, name, buffers, first, ours=ours, file=file)


class RecordedPlainEnd(PlainEnd):
    """A PlainEnd whose bytes are given to the file when they are received or handed over to be sent."""

    __slots__ = ("_tap",)

    def __init__(
        self, sock: socket.socket, name: str, buffers: Buffers, first: bytes = b"", *, ours: Side, file: WireFile
    ) -> None:
        """``first`` was read before."""
        super().__init__(sock, name, buffers, first)
        self._tap = WireTap(file, ours, partial(ends_of, lambda: sock))
        if first:
            self._tap.received(first)
            self._tap.flush()

    def receive(self, limit: int = LARGE) -> memoryview | None:
        latest = super().receive(limit)
        if latest is not None:
            self._tap.received(bytes(latest))
            self._tap.flush()
        elif self.ended:
            self._tap.end(self._tap.ours.other)
        return latest

    def transmit(self, data: bytes | bytearray | memoryview) -> bool:
        if data:
            self._tap.sent(bytes(data))
            self._tap.flush()
        return super().transmit(data)

    def finish(self, last: bool = False) -> bool:
        self._tap.end(self._tap.ours)
        return super().finish(last)
