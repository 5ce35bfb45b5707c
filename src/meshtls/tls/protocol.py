"""TLS between an asyncio TCP transport and an asyncio protocol.

The alert of a refused handshake reaches the peer, and a connection that is cut without close_notify raises instead of
looking like a clean end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from meshtls.errors import HandshakeError, LocalIdentityError, PeerError
from meshtls.tls.engine import TlsEngine
from meshtls.tls.states import NEXT, StreamEvent, StreamState
from meshtls.tls.transport import TlsTransport
from meshtls.wire.tls import INTERNAL_ERROR_ALERT

__all__ = ["LINGER", "TlsProtocol"]

#: Seconds for which a refused peer's bytes are read and dropped: closing over unread bytes sends a reset, which
#: overtakes the alert.
LINGER = 2.0
#: Most bytes that are dropped meanwhile. After that the peer is not read from.
_LINGER_BYTES = 1 << 24


class TlsProtocol(asyncio.Protocol):
    """What the TCP transport sees. ``began`` is called when the peer's first bytes have come.

    - ``state``: see ``meshtls.tls.states``.
    - ``ready``: done when the peer is verified and allowed, or holds the error with the reason why not. Wait for it
      through ``asyncio.shield``: cancelling a waiter must not cancel the handshake.
    - ``closed``: done when the TCP connection is gone.
    - ``remote``: host and port of the other end; an empty host before there is a connection.
    """

    def __init__(
        self,
        make_engine: Callable[[asyncio.Transport], TlsEngine],
        application: asyncio.Protocol,
        began: Callable[[], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.state = StreamState.CONNECTING
        self.ready: asyncio.Future[TlsTransport] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._make_engine = make_engine
        self._began = began
        self._waiting = application
        #: The application's protocol; a dummy until the connection is open and after it broke.
        self._application = asyncio.Protocol()
        self._dropped = 0
        self.remote: tuple[str, int] = "", 0
        self._tcp: asyncio.Transport
        self._engine: TlsEngine
        self._transport: TlsTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream transport by construction; uvloop's transports do not derive from asyncio's.
        self._tcp = cast("asyncio.Transport", transport)
        host, port = (transport.get_extra_info("peername") or self.remote)[:2]
        self.remote = host, port
        self._step(StreamEvent.CONNECTED)
        if self.state is StreamState.CUT:
            self._tcp.abort()
            return
        try:
            self._engine = self._make_engine(self._tcp)
        except LocalIdentityError as error:
            self._tcp.write(INTERNAL_ERROR_ALERT)
            self._end_sending()
            self._refuse(error)
            return
        self._transport = TlsTransport(self._tcp, self._engine)
        self._transport.set_protocol(self._waiting)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        if self.state not in (StreamState.HANDSHAKING, StreamState.OPEN):
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self._tcp.pause_reading()
            return
        if self._began is not None:
            self._began()
            self._began = None
        self._engine.feed(data)
        if self.state is StreamState.HANDSHAKING:
            self._handshake()
        if self.state is StreamState.OPEN:
            self._deliver()

    def eof_received(self) -> bool:
        if self.state is StreamState.HANDSHAKING:
            self._refuse(self._engine.closed_early("the peer closed the connection in the middle of the handshake"))
        if self.state is not StreamState.OPEN:
            return False
        if not self._engine.peer_closed:
            self._lose(ConnectionResetError("the peer's TCP connection ended without TLS's close_notify"))
            self.abort()
        return not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state is StreamState.HANDSHAKING:
            self._fail(self._engine.closed_early("the connection broke in the middle of the handshake"))
        self._step(StreamEvent.LOST)
        self._application.connection_lost(exc)
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        if self.state is StreamState.OPEN:
            self._transport.writable(yes=False)
            self._application.pause_writing()

    def resume_writing(self) -> None:
        if self.state is StreamState.OPEN:
            self._transport.writable(yes=True)
            self._application.resume_writing()

    def give_up(self) -> None:
        """Refuse a peer whose handshake took too long, with an alert."""
        self._engine.queue_fatal_alert()
        self._refuse_with_alert(HandshakeError("the handshake took too long"))

    async def linger(self, seconds: float = LINGER) -> None:
        """Wait up to ``seconds`` for the peer to read the alert and close; then close the connection."""
        try:
            await asyncio.wait([self.closed], timeout=seconds)
        finally:
            self._tcp.abort()

    def abort(self) -> None:
        """Abort the connection now, or as soon as it is made."""
        self._step(StreamEvent.ABORTED)
        self.ready.cancel()
        if self.state is not StreamState.CANCELLED:
            self._tcp.abort()

    def cut(self, error: PeerError) -> None:
        """End an open connection: the application's reads and writes raise ``error``."""
        self._lose(error)
        self.abort()

    def _step(self, event: StreamEvent) -> None:
        self.state = NEXT[self.state][event]

    def _handshake(self) -> None:
        try:
            peer = self._engine.handshake()
        except PeerError as error:
            self._refuse_with_alert(error)
            return
        self._transport.flush()
        if peer is not None:
            self._step(StreamEvent.PROVEN)
            self._application = self._waiting
            self._application.connection_made(self._transport)
            self.ready.set_result(self._transport)

    def _refuse_with_alert(self, error: PeerError) -> None:
        if alert := self._engine.refusal():
            self._tcp.write(alert)
        self._end_sending()
        self._refuse(error)

    def _end_sending(self) -> None:
        # Fails where the peer has reset the connection: the error must not take the place of why it was refused.
        with contextlib.suppress(OSError):
            self._tcp.write_eof()

    def _refuse(self, error: PeerError | LocalIdentityError) -> None:
        self._step(StreamEvent.REFUSED)
        self._fail(error)

    def _fail(self, error: PeerError | LocalIdentityError) -> None:
        self.ready.set_exception(error)
        self.ready.exception()  # mark it retrieved, or asyncio logs it if nobody waits, as after a cancelled dial

    def _deliver(self) -> None:
        try:
            plain = self._engine.read()
        except HandshakeError as error:
            if alert := self._engine.outgoing():
                self._tcp.write(alert)
                self._part(error)
            else:
                self.cut(error)  # the alert is the peer's, which has nothing to read from us
            return
        self._transport.answer()
        if plain:
            self._application.data_received(plain)
        if self._engine.peer_closed:
            self._application.eof_received()
            self._transport.peer_closed()

    def _part(self, error: HandshakeError) -> None:
        """End the connection, but let the peer read the alert that was sent, whatever the application does now."""
        self._step(StreamEvent.BROKEN)
        self._lose(error)
        self._transport.parting = True
        self._tcp.resume_reading()
        self._end_sending()
        asyncio.get_running_loop().call_later(LINGER, self._tcp.abort)

    def _lose(self, error: Exception) -> None:
        """The application's reads and writes raise ``error`` from now on."""
        application, self._application = self._application, asyncio.Protocol()
        application.connection_lost(error)

    def __repr__(self) -> str:
        return f"<TlsProtocol {self.state.name}>"
