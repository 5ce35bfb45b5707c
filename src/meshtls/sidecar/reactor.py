"""What all sidecars on one event loop share: the poller, the idle timer, the handshake scheduler and the buffers.

A loop has one reactor, for a loop has one epoll, and connections are to be fair to each other whichever sidecar they
belong to. ``running_reactor`` finds it; a sidecar asks once, and hands it to all that it makes.
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
#: What is received begins at a multiple of this: kernel and AES copy slower to and from odd addresses.
_ALIGNMENT = 64


class Buffers:
    """What a callback receives into and decrypts into. It is done with them when it returns, so that a connection that
    waits holds none. ``latest`` is the part of ``received`` that a plain socket gave last.
    """

    __slots__ = ("_framed", "decrypted", "latest", "received")

    def __init__(self) -> None:
        whole = memoryview(bytearray(_ALIGNMENT + LARGEST_RECEIVE))
        self._framed = whole[_ALIGNMENT - HEADER_BYTES :]
        self.received = whole[_ALIGNMENT:]
        self.latest = self.received[:0]
        self.decrypted = memoryview(bytearray(LARGEST_RECEIVE + MAX_RECORD))

    def with_headroom(self, data: bytes | memoryview) -> memoryview | None:
        """The same bytes behind HEADER_BYTES that are free, where they are ``latest``: a frame is then built around
        them without a copy. None for any others.
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
    #: Of the loop that runs in this thread, or ran last.
    reactor: Reactor | None = None


_latest = _Latest()


def running_reactor() -> Reactor:
    """The running loop's. Raises RuntimeError where none runs."""
    loop, reactor = asyncio.get_running_loop(), _latest.reactor
    if reactor is None or reactor.loop is not loop:
        reactor = _latest.reactor = Reactor(loop)
    return reactor
