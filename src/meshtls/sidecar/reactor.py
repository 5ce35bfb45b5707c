"""What all sidecars on one event loop share: the poller, the idle timer, the handshake scheduler and the buffers.

A loop has one reactor, because it has one epoll, and because all connections should share the loop fairly, whichever
sidecar they belong to. ``running_reactor`` finds it; a sidecar calls that once, and hands the reactor on.
"""

from __future__ import annotations

import asyncio
import threading

from meshtls.sidecar.idle import IdleWatch
from meshtls.sidecar.poller import Poller, poller_of
from meshtls.sidecar.scheduler import HandshakeScheduler
from meshtls.wire.http2.frames import HEADER_BYTES
from meshtls.wire.tls import MAX_RECORD

__all__ = ["LARGEST_RECEIVE", "Buffers", "Reactor", "running_reactor"]

#: Bytes of one receive, at most.
LARGEST_RECEIVE = 1 << 18
#: Received bytes begin at a multiple of this: kernel and AES are slower with unaligned addresses.
_ALIGNMENT = 64


class Buffers:
    """The buffers into which a callback receives and decrypts. It uses them only until it returns, so that a waiting
    connection holds none. ``latest`` is the part of ``received`` that the latest read of a plain socket filled.
    """

    __slots__ = ("_framed", "decrypted", "latest", "received")

    def __init__(self) -> None:
        whole = memoryview(bytearray(_ALIGNMENT + LARGEST_RECEIVE))
        self._framed = whole[_ALIGNMENT - HEADER_BYTES :]
        self.received = whole[_ALIGNMENT:]
        self.latest = self.received[:0]
        self.decrypted = memoryview(bytearray(LARGEST_RECEIVE + MAX_RECORD))

    def with_headroom(self, data: bytes | memoryview) -> memoryview | None:
        """If ``data`` is ``latest``: a view of it with HEADER_BYTES of free space before it, in which a frame is built
        without a copy. None for any other bytes.
        """
        return self._framed[: HEADER_BYTES + len(data)] if data is self.latest else None


class Reactor:
    """One event loop's. Its times are the loop's, by which the loop's timers go as well."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.poller: Poller = poller_of(loop)
        self.idle = IdleWatch(loop)
        self.scheduler = HandshakeScheduler(loop)
        self.buffers = Buffers()

    def __repr__(self) -> str:
        return f"<Reactor {self.poller!r} {self.idle!r} {self.scheduler!r}>"


class _Latest(threading.local):
    #: The reactor of the loop that runs in this thread, or ran last.
    reactor: Reactor | None = None


_latest = _Latest()


def running_reactor() -> Reactor:
    """The running loop's. Raises RuntimeError where none runs."""
    loop, reactor = asyncio.get_running_loop(), _latest.reactor
    if reactor is None or reactor.loop is not loop:
        reactor = _latest.reactor = Reactor(loop)
    return reactor
