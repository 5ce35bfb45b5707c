"""Finds out from a client's first bytes whether it speaks HTTP, and which one. No byte is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.ends import LARGE, End
from meshtls.sidecar.reactor import Reactor
from meshtls.wire.http1.start import HttpStart, http_start_of

__all__ = ["HTTP", "detect"]

#: What is read as HTTP.
HTTP = (HttpStart.HTTP1, HttpStart.HTTP2)
_LINE_ENDS, _FEW = frozenset(b"\r\n"), 256


async def detect(
    client: End, reactor: Reactor, *, idle: float, silent: float | None = None, app: socket.socket | None = None
) -> HttpStart:
    """What the client speaks. UNDECIDED if it ends, if it says nothing for ``silent`` seconds, or if ``app`` speaks
    before it: HTTP's servers never do.

    Raises EndedError if the connection broke, and IDLE_TIMEOUT where the client says nothing, or began a line and did
    not finish it, for ``idle`` seconds: it could still become a request, which an app must not get unread.
    """
    look = _Look(client, app, reactor)
    try:
        client.watch(reactor.poller, look.again, None)
        if app is not None:
            reactor.poller.watch(app, look.app_spoke, None)
        look.take(client.first(LARGE))
        decided = await look.wait_decided(idle if silent is None else silent)
        if not decided and look.so_far and silent is not None:
            decided = await look.wait_decided(idle)
        if not decided and (look.so_far or silent is None):
            what = "the client's first line was not whole after" if look.so_far else "no byte moved for"
            raise EndedError(Outcome.IDLE_TIMEOUT, f"{what} {idle:g} s")
    finally:
        client.watch(reactor.poller, None, None)
        if app is not None:
            reactor.poller.watch(app, None, None)
    if look.error is not None:
        raise look.error
    client.unread(bytes(look.so_far))
    return http_start_of(bytes(look.so_far), ended=client.ended)


class _Look:
    """``error``: what broke the client's connection, also after the answer was found. A stream says it only once."""

    def __init__(self, client: End, app: socket.socket | None, reactor: Reactor) -> None:
        self.so_far = bytearray()
        self.error: Exception | None = None
        #: The size at which a line without an end is looked at again: a client may send it byte by byte.
        self._next = 0
        self._found: asyncio.Future[None] = reactor.loop.create_future()
        self._client = client
        self._app = app
        self._poller = reactor.poller

    async def wait_decided(self, seconds: float) -> bool:
        """Whether there is an answer within this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._found)
        return self._found.done()

    def again(self) -> None:
        """There is more. Called by the poller, or by a stream, whose bytes are lost if they are not taken now.

        It raises nothing.
        """
        if self._client.ended and not self._client.pushes:
            return  # after close_notify, the end of TCP is not an error
        try:
            self.take(self._client.receive(LARGE) or b"")
        except Exception as error:  # noqa: BLE001  # ``detect`` raises it
            self.error = error
            self._decide()

    def app_spoke(self) -> None:
        """The app has sent bytes, or ended. Once a client has begun a line, the line decides."""
        if self._app is not None:
            self._poller.watch(self._app, None, None)
        self.again()
        if not self.so_far:
            self._decide()

    def take(self, data: bytes | memoryview) -> None:
        self.so_far += data
        if self._client.pushes:
            self._client.settle(len(self.so_far))
        if self._found.done():
            return
        size = len(self.so_far)
        if not self._client.ended and size < self._next and not _LINE_ENDS.intersection(data):
            return
        self._next = size + 1 if size < _FEW else 2 * size
        if self._client.ended or http_start_of(bytes(self.so_far)) is not HttpStart.UNDECIDED:
            self._decide()

    def _decide(self) -> None:
        if not self._found.done():
            self._found.set_result(None)
