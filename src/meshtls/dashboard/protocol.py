"""HTTP/1.1 of uvicorn with bounds on a client that takes a connection and does nothing with it.

uvicorn has a timeout between two requests, which any byte stops, and none before the first. Here a connection that has
sent no whole request head for some seconds is closed, and so is one that does not take its answer. Where all places are
taken, the connection that has been without a request for longest makes place for a new one. An answer without an end
(server-sent events) is a request that goes on, and is left alone as long as its reader reads.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MOST_CONNECTIONS", "BoundedProtocol"]

MOST_CONNECTIONS = 64
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 31\r\n\r\n"
    b"too many requests at once; wait"
)


class BoundedProtocol(H11Protocol):
    """One connection. ``HEAD_SECONDS``: for a request head to arrive whole, from the beginning or from the end of the
    answer before it. ``SEND_SECONDS``: for a client to take what fills the buffers.
    """

    HEAD_SECONDS: ClassVar[float] = 10.0
    SEND_SECONDS: ClassVar[float] = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._idle_since = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._wait_for_head()
        open_ones = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_open]
        if len(open_ones) > MOST_CONNECTIONS:
            others = [one for one in open_ones if one.idle and one is not self]
            if others:
                min(others, key=lambda one: one._idle_since).transport.abort()  # of this class
            else:
                transport.write(_BUSY)
                transport.close()

    @property
    def is_open(self) -> bool:
        """Whether it has a place: one that is being closed has none."""
        return not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.idle:
            self._stop_head_timer()

    def on_response_complete(self) -> None:
        self._wait_for_head()
        super().on_response_complete()
        if not self.idle:  # the next request had arrived already
            self._stop_head_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(self.SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _wait_for_head(self) -> None:
        self._stop_head_timer()
        self._idle_since = time.monotonic()
        self._head_timer = self.loop.call_later(self.HEAD_SECONDS, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
