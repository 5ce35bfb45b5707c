"""TLS between an asyncio TCP transport and an asyncio protocol.

The alert of a refused handshake reaches the peer, and a connection that is cut without close_notify raises instead of
looking like a clean end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from meshtls.errors import HandshakeError, LocalIdentityError, PeerError
from meshtls.tls.engine import TlsEngine
from meshtls.tls.transport import TlsTransport
from meshtls.wire.tls import INTERNAL_ERROR_ALERT

__all__ = ["LINGER", "TlsProtocol"]

#: Seconds for which a refused peer's bytes are read and dropped: closing over unread bytes sends a reset, which
#: overtakes the alert.
LINGER = 2.0
#: Bytes that are dropped meanwhile; a peer that has sent as many is not read from any more.
_LINGER_BYTES = 1 << 24


class TlsProtocol(asyncio.Protocol):
    """What the TCP transport sees. ``began`` is called when the peer's first bytes have come.

    ``ready`` is done when the peer is verified and allowed, or holds the error with the reason why not; ``closed`` is
    done when the TCP connection is gone.
    """

    def __init__(
        self,
        make_engine: Callable[[asyncio.Transport], TlsEngine],
        application: asyncio.Protocol,
        began: Callable[[], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[TlsTransport] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._make_engine = make_engine
        self._application = application
        self._began = began
        self._made = self._cut = False
        #: It broke, and the peer has an alert to read.
        self.parting = False
        self._dropped = 0
        self._tcp: asyncio.Transport
        self._engine: TlsEngine
        self._transport: TlsTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream transport, by how it was made; uvloop's are of no class of asyncio's.
        self._made, self._tcp = True, cast("asyncio.Transport", transport)
        if self._cut:
            self._tcp.abort()
            return
        try:
            self._engine = self._make_engine(self._tcp)
        except LocalIdentityError as error:
            self._tcp.write(INTERNAL_ERROR_ALERT)
            self._tcp.write_eof()
            self._settle(error)
            return
        self._transport = TlsTransport(self._tcp, self._engine)
        self._transport.set_protocol(self._application)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        if self.parting or self._refused():
            self._drop(len(data))
            return
        if self._began is not None:
            self._began()
            self._began = None
        self._engine.feed(data)
        if not self.ready.done():
            self._handshake()
        if self.established:
            self._deliver()

    def eof_received(self) -> bool:
        if not self.ready.done():
            self._settle(HandshakeError("the peer closed the connection in the middle of the handshake"))
        elif self.parting:
            return False
        elif self.established and not self._engine.peer_closed:
            self._fail(ConnectionResetError("the peer's TCP connection ended without TLS's close_notify"))
        return self.established and not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self._settle(HandshakeError("the connection broke in the middle of the handshake"))
        elif self.established:
            self._application.connection_lost(exc)
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        if self.established:
            self._transport.writable(yes=False)
            self._application.pause_writing()

    def resume_writing(self) -> None:
        if self.established:
            self._transport.writable(yes=True)
            self._application.resume_writing()

    def give_up(self) -> None:
        """Tell the peer that its handshake took too long."""
        self._engine.give_up()
        self._end_refused()

    async def linger(self, seconds: float = LINGER) -> None:
        """Wait for the peer to take the alert and go, at most so long; the connection is closed after."""
        try:
            await asyncio.wait([self.closed], timeout=seconds)
        finally:
            self._tcp.abort()

    def abort(self) -> None:
        """Cut it now, or the moment that it is made."""
        self._cut = True
        self.ready.cancel()
        if self._made:
            self._tcp.abort()

    @property
    def established(self) -> bool:
        """The peer was let in."""
        return self.ready.done() and not self._refused()

    def _refused(self) -> bool:
        return self.ready.done() and (self.ready.cancelled() or self.ready.exception() is not None)

    def _end_refused(self) -> None:
        if alert := self._engine.refusal():
            self._tcp.write(alert)
        self._tcp.write_eof()

    def _handshake(self) -> None:
        try:
            peer = self._engine.handshake()
        except PeerError as error:
            self._end_refused()
            self._settle(error)
            return
        self._transport.flush()
        if peer is not None:
            self._application.connection_made(self._transport)
            self.ready.set_result(self._transport)

    def _settle(self, error: PeerError | LocalIdentityError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # else asyncio complains where nobody waits any more, as after a cancelled dial

    def _deliver(self) -> None:
        try:
            plain = self._engine.read()
        except HandshakeError as error:
            self._transport.flush()
            self._part(error)
            return
        self._transport.answer()
        if plain:
            self._application.data_received(plain)
        if self._engine.peer_closed:
            self._application.eof_received()
            self._transport.peer_closed()

    def _fail(self, error: Exception) -> None:
        """Break the connection off; the application's reads and writes raise ``error``."""
        self._lose(error)
        self._tcp.abort()

    def _part(self, error: HandshakeError) -> None:
        """The same, but let the peer read the alert that was sent, whatever the application does now."""
        self._lose(error)
        self.parting = self._transport.parting = True
        self._tcp.resume_reading()
        self._tcp.write_eof()
        asyncio.get_running_loop().call_later(LINGER, self._tcp.abort)

    def _lose(self, error: Exception) -> None:
        application, self._application = self._application, asyncio.Protocol()
        application.connection_lost(error)

    def _drop(self, count: int) -> None:
        self._dropped += count
        if self._dropped > _LINGER_BYTES:
            self._tcp.pause_reading()
