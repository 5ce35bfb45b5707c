"""``insecure_capture``: a pcapng file of what the sidecar's connections send and receive, with their TLS secrets.

For debugging alone: whoever reads the file reads every connection in it. It needs no right to capture, since the engine
of each connection gives its records away (``recorded_engine``). What a connection writes is one ``write`` to the page
cache, and never waits for a disk; where the file fails, or has its size, nothing more is written and traffic goes on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

from meshtls.capture.files.opening import opened_to_write
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.keylog import KeyLog
from meshtls.capture.synthetic import RAW_IP, SYNTHETIC_HEADERS, Conversation
from meshtls.logs import logger
from meshtls.scalars import size_text
from meshtls.sidecar.settings import CaptureKeys
from meshtls.wire.side import Side

__all__ = ["Conversation", "WireFile", "WireTap", "ends_of"]

log = logger("meshtls.sidecar")

#: Bytes of a block besides its packet or its secrets, at most.
_OVERHEAD = 40
#: Bytes of a handshake that wait for its end.
_MOST_HELD = 1 << 18
_COMMENT = (
    "Written by the meshtls sidecar {}: the bytes as they were sent and received, with the real addresses and times;"
    " the TCP and IP headers around them are synthetic"
)


def ends_of(sock: Callable[[], socket.socket | None]) -> tuple[tuple[str, int], tuple[str, int]]:
    """Our address and the peer's. Raises OSError if it is not connected."""
    found = sock()
    if found is None:
        raise OSError("not connected")
    own, peer = found.getsockname(), found.getpeername()
    return (own[0], own[1]), (peer[0], peer[1])


class WireFile:
    """One file, which only its owner can read, of bounded size.

    ``keylog`` is a descriptor in memory: OpenSSL appends secrets there, and they go from there into the file.
    """

    def __init__(self, keys: CaptureKeys, name: str) -> None:
        """``name``: the sidecar's. Nothing is written before ``open``."""
        self._keys, self._name = keys, name
        self.keylog = os.memfd_create("meshtls-secrets", os.MFD_CLOEXEC)
        self._writer: PcapngWriter | None = None
        self._stream: BinaryIO | None = None
        self._left = 0
        self.stopped = ""

    def open(self) -> None:
        """Begin it; an older one is replaced. Raises ConfigError."""
        # Unbuffered: what is written can be read at once, and a file that fails is noticed at once.
        stream = opened_to_write(self._keys.file).detach()  # type: ignore[attr-defined]
        self._stream, self._left = stream, self._keys.max_size - 1024
        self._writer = PcapngWriter(stream, comment=_COMMENT.format(self._name))
        self._writer.interface(RAW_IP, f"sidecar {self._name}", description=SYNTHETIC_HEADERS)
        log.warning(
            "INSECURE: all connections over the network are written to %s with their TLS secrets (insecure_capture), up"
            " to %s: whoever reads it reads them",
            self._keys.file,
            size_text(self._keys.max_size),
        )

    @property
    def notice(self) -> str:
        """What it does, for ``/ready`` and the log."""
        what = f"INSECURE: connections are written to {self._keys.file} with their TLS secrets"
        return f"{what}: ended, {self.stopped}" if self.stopped else what

    def secrets(self) -> None:
        """Write the secrets that OpenSSL has given since."""
        size = os.fstat(self.keylog).st_size
        if not size:
            return
        lines = os.pread(self.keylog, size, 0).split(b"\n")
        os.ftruncate(self.keylog, 0)
        known = b"".join(line + b"\n" for line in lines if len(KeyLog(line)))
        if known and (writer := self._room(len(known))) is not None:
            self._attempt(lambda: writer.secrets(known))

    def packets(self, packets: Iterable[bytes], time_ns: int) -> None:
        """Write these, as long as there is room."""
        for one in packets:
            writer = self._room(len(one))
            if writer is None:
                return
            self._attempt(lambda writer=writer, one=one: writer.packet(0, time_ns, one))  # type: ignore[misc]

    def close(self) -> None:
        """Nothing more is written."""
        self._writer = None
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None
        if self.keylog >= 0:
            os.close(self.keylog)
            self.keylog = -1

    def _room(self, size: int) -> PcapngWriter | None:
        if self._writer is None:
            return None
        self._left -= size + _OVERHEAD
        if self._left < 0:
            self._stop(f"it has its max_size, {size_text(self._keys.max_size)}")
        return self._writer

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._stop(f"it can't be written: {error.strerror}")

    def _stop(self, why: str) -> None:
        self._writer, self.stopped = None, why
        log.warning("insecure_capture: nothing more is written to %s: %s", self._keys.file, why)


class _Piece(NamedTuple):
    side: Side
    data: bytes
    time_ns: int


class WireTap:
    """What one connection sends and receives. ``ours``: which side we are.

    Its handshake is written once it is over, after the secrets: readers look for these when they see the ClientHello.
    """

    __slots__ = ("_conversation", "_ends", "_file", "_held", "_waiting", "ours")

    def __init__(self, file: WireFile, ours: Side, ends: Callable[[], tuple[tuple[str, int], tuple[str, int]]]) -> None:
        """``ends``: our address and the peer's, asked for with the first bytes; it may raise OSError."""
        self._file, self.ours = file, ours
        self._ends: Callable[[], tuple[tuple[str, int], tuple[str, int]]] | None = ends
        self._conversation: Conversation | None = None
        self._waiting: list[_Piece] = []
        self._held = 0

    def received(self, data: bytes) -> None:
        """Record bytes from the peer; it waits for ``flush``."""
        self._add(self.ours.other, data)

    def sent(self, data: bytes) -> None:
        """Record bytes to the peer; it waits for ``flush``."""
        self._add(self.ours, data)

    def flush(self) -> None:
        """Write what waits."""
        file = self._file
        if file.keylog >= 0:
            file.secrets()
        if not self._waiting:
            return
        waiting, self._waiting, self._held = self._waiting, [], 0
        conversation = self._begun(waiting[0].time_ns)
        if conversation is not None:
            for side, data, time_ns in waiting:
                file.packets(conversation.data(side, data), time_ns)

    def end(self, side: Side) -> None:
        """Note that ``side`` has ended its direction: close_notify, or without TLS a FIN."""
        self.flush()
        if self._conversation is not None:
            self._file.packets(self._conversation.end(side), time.time_ns())

    def _add(self, side: Side, data: bytes) -> None:
        if self._file.stopped:
            return
        self._waiting.append(_Piece(side, data, time.time_ns()))
        self._held += len(data)
        if self._held > _MOST_HELD:
            self.flush()

    def _begun(self, time_ns: int) -> Conversation | None:
        ends, self._ends = self._ends, None
        if ends is not None:
            try:
                own, peer = ends()
                client, server = (own, peer) if self.ours is Side.CLIENT else (peer, own)
                self._conversation = Conversation(client, server)
            except (OSError, ValueError):  # it is gone before it has said anything
                return None
            self._file.packets(self._conversation.open(), time_ns)
        return self._conversation
