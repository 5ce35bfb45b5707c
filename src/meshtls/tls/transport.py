"""TLS between an asyncio TCP transport and an asyncio protocol, with what asyncio's own lacks.

The alert of a refused handshake reaches the peer, ``write_eof`` works (TLS half-close), and a connection that is cut
without close_notify raises instead of looking like a clean end.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from meshtls.errors import HandshakeError, LocalIdentityError, PeerError
from meshtls.tls.engine import MAX_OWED, TlsEngine

__all__ = ["LINGER", "TlsProtocol", "TlsTransport"]

#: Seconds for which a refused peer's bytes are read and dropped: closing over unread bytes sends a reset, which
#: overtakes the alert.
LINGER = 2.0

_OF_SSL_OBJECT: dict[str, Callable[[ssl.SSLObject], object]] = {
    "ssl_object": lambda tls: tls,
    "peercert": lambda tls: tls.getpeercert(),
    "cipher": lambda tls: tls.cipher(),
    "compression": lambda tls: tls.compression(),
}


class TlsTransport(asyncio.Transport):
    """What the application's protocol sees."""

    def __init__(self, tcp: asyncio.Transport, engine: TlsEngine) -> None:
        super().__init__()
        self._tcp = tcp
        self._engine = engine
        self._protocol: asyncio.BaseProtocol | None = None
        self._write_closed = False
        self._paused = self._held = self._full = False
        self._owed = 0
        # The connection gets another one, without roots and keys, once the peer is let in.
        self._context = engine.ssl_object.context

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What asyncio's own TLS transport gives, and beside that ``peer``, a VerifiedPeer, and ``svid``, our own."""
        if name == "peer":
            return self._engine.peer
        if name == "svid":
            return self._engine.context.svid
        if name == "sslcontext":
            return self._context
        known = _OF_SSL_OBJECT.get(name)
        return known(self._engine.ssl_object) if known else self._tcp.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None  # noqa: S101  # set before the application sees this transport
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._write_closed:
            raise RuntimeError("write after write_eof or close")
        self._engine.write(data)
        self.flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Send close_notify; reading goes on."""
        if self._write_closed or self._tcp.is_closing():
            return
        self._write_closed = True
        try:
            self._engine.close_write()
        finally:
            self.flush()
        if self._engine.peer_closed:
            self._tcp.close()

    def peer_closed(self) -> None:
        """The peer sent close_notify: the connection is over once we have too."""
        if self._write_closed:
            self._tcp.close()

    def answer(self) -> None:
        """Send what TLS answers by itself. A peer that asks for more and more and reads nothing is not read from."""
        waiting = self._tcp.get_write_buffer_size()
        self.flush()
        self._owed = self._owed + self._tcp.get_write_buffer_size() - waiting if waiting else 0
        if self._full and self._owed > MAX_OWED:
            self._held = True
            self._tcp.pause_reading()

    def writable(self, *, yes: bool) -> None:
        """Whether what waits to be sent is below the limit."""
        self._full = not yes
        if yes:
            self._owed = 0
            self._held = False
            if not self._paused:
                self._tcp.resume_reading()

    def flush(self) -> None:
        data = self._engine.outgoing()
        if data:
            self._tcp.write(data)

    def close(self) -> None:
        try:
            self.write_eof()
        except HandshakeError:
            self._tcp.abort()
        self._tcp.close()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def is_reading(self) -> bool:
        return not self._paused and not self._tcp.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self._held:
            self._tcp.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._tcp.get_write_buffer_limits()


class TlsProtocol(asyncio.Protocol):
    """What the TCP transport sees.

    ``ready`` is done when the peer is verified and allowed, or holds the error with the reason why not; ``closed`` is
    done when the TCP connection is gone.
    """

    def __init__(self, make_engine: Callable[[asyncio.Transport], TlsEngine], application: asyncio.Protocol) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[TlsTransport] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._make_engine = make_engine
        self._application = application
        self._made = self._cut = False
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
            self._settle(error)
            self._tcp.abort()
            return
        self._transport = TlsTransport(self._tcp, self._engine)
        self._transport.set_protocol(self._application)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        if self._refused():
            return
        self._engine.feed(data)
        if not self.ready.done():
            self._handshake()
        if self.established:
            self._deliver()

    def eof_received(self) -> bool:
        if not self.ready.done():
            self._settle(HandshakeError("the peer closed the connection in the middle of the handshake"))
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
        if self._engine.ssl_object.refused_late:
            self._engine.give_up()
        self._transport.flush()
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
            self._fail(error)
            return
        self._transport.answer()
        if plain:
            self._application.data_received(plain)
        if self._engine.peer_closed:
            self._application.eof_received()
            self._transport.peer_closed()

    def _fail(self, error: Exception) -> None:
        """Break the connection off; the application's reads and writes raise ``error``."""
        application, self._application = self._application, asyncio.Protocol()
        application.connection_lost(error)
        self._tcp.abort()
