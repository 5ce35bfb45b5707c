"""The two kinds of ends that a relay joins: a plain TCP socket, and one with TLS over it.

Nothing here waits. ``receive`` takes what is there, once; ``transmit`` sends what the kernel takes and keeps the rest,
and is not called again before ``flush`` has sent that: so an end holds at most what one ``receive`` gave, and a bounded
rest of what TLS answers by itself. All ends of a thread share one buffer for what comes in and one for what is
decrypted from it; both are done with when a callback returns, so an idle connection holds none.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Protocol

from meshtls.errors import HandshakeError
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Parting
from meshtls.sidecar.sockets import error_of
from meshtls.tls.engine import TlsEngine
from meshtls.wire.tls import MAX_RECORD

__all__ = ["End", "PlainEnd", "TlsEnd"]

# Keeps close_notify back for the FIN behind it, so that the peer is woken once for both.
_WITH_FIN: int = getattr(socket, "MSG_MORE", 0)

#: Bytes of one receive. A stream that fills the smaller is given the larger; one that does not goes back.
_SMALL, _LARGE = 1 << 16, 1 << 18


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.received = memoryview(bytearray(_LARGE))
        self.decrypted = memoryview(bytearray(_LARGE + MAX_RECORD))


_buffers = _Buffers()


class End(Protocol):
    """One side of a relay. Every call raises EndedError where the connection broke."""

    sock: socket.socket
    #: The other side of this socket has properly ended: no more will be received.
    ended: bool
    #: Bytes of answers of TLS's own (KeyUpdate) that wait for ``flush`` to send them.
    owed: int

    def first(self) -> bytes | memoryview:
        """Application bytes that arrived before the relay began, good until the next call of any end."""

    def receive(self) -> memoryview | None:
        """What has arrived, good until the next call of any end; None where there is nothing yet or ``ended``."""

    def transmit(self, data: bytes | memoryview) -> bool:
        """Send; False where a rest is kept that ``flush`` has to send when the socket is writable."""

    def flush(self) -> bool:
        """Send the rest; True where none is left."""

    def finish(self) -> bool:
        """Tell this side that no more comes; what it sends can still be received. False as ``transmit``."""

    def check(self) -> None:
        """Nothing but raise: for a socket that is neither received from nor sent to, where a reset shows in no call."""


class _Socket:
    """What both kinds do with their socket."""

    __slots__ = ("_buffer", "_finishing", "_name", "_rest", "_size", "ended", "owed", "sock")

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.sock = sock
        self.ended = False
        self.owed = 0
        self._name = name
        self._buffer = _buffers.received
        self._size = _SMALL
        self._rest: bytes | memoryview = b""
        self._finishing = False

    def flush(self) -> bool:
        rest, self._rest = self._rest, b""
        if not self._put(rest):
            return False
        self.owed = 0
        return True

    def check(self) -> None:
        error = error_of(self.sock)
        if error is not None:
            raise EndedError(Outcome.RESET, f"{self._name} broke off: {error}")

    def _take(self) -> int:
        """Receive into the shared buffer; the count, -1 for nothing yet. 0 is the end of TCP."""
        size = self._size
        try:
            count = self.sock.recv_into(self._buffer, size)
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} broke off: {error}") from error
        if count == size:
            self._size = _LARGE
        elif count < _SMALL:
            self._size = _SMALL
        return count

    def _put(self, data: bytes | memoryview) -> bool:
        if self._rest:
            self._rest = bytes(self._rest) + data
            return False
        try:
            sent = self.sock.send(data, _WITH_FIN if self._finishing else 0) if data else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} takes no more: {error}") from error
        if sent < len(data):
            self._rest = _kept(data, sent)
            return False
        if self._finishing:
            self._shut()
        return True

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} is gone: {error}") from error


class PlainEnd(_Socket):
    """A plain TCP socket; ``first`` was read from it before. ``waited``: so long that more of it may be there."""

    __slots__ = ("_first", "_waited")

    def __init__(self, sock: socket.socket, name: str, first: bytes = b"", *, waited: bool = False) -> None:
        super().__init__(sock, name)
        self._first = first
        self._waited = waited

    def first(self) -> bytes | memoryview:
        first, self._first = self._first, b""
        return first or (self._waited and self.receive()) or b""

    def receive(self) -> memoryview | None:
        count = self._take()
        if count > 0:
            return self._buffer[:count]
        self.ended = count == 0
        return None

    def transmit(self, data: bytes | memoryview) -> bool:
        return self._put(data)

    def finish(self) -> bool:
        self._finishing = True
        return self._put(b"")


class TlsEnd(_Socket):
    """A TCP socket and the TLS over it. What the handshake left to send goes with the first bytes, if there are any."""

    __slots__ = ("_decrypted", "_engine", "_heard")

    def __init__(self, sock: socket.socket, engine: TlsEngine, name: str) -> None:
        super().__init__(sock, name)
        self._engine = engine
        self._decrypted = _buffers.decrypted
        self._heard = False

    def first(self) -> bytes:
        try:
            plain = self._engine.read()
        except HandshakeError as error:
            raise self._broken(error) from error
        self._after_opening(len(plain))
        return plain

    def receive(self) -> memoryview | None:
        received = self._take()
        if received < 0:
            return None
        if received == 0:
            self._forget_session()
            raise EndedError(Outcome.RESET, f"{self._name} ended its TCP connection without close_notify")
        try:
            count = self._engine.open(self._buffer[:received], self._decrypted)
        except HandshakeError as error:
            raise self._broken(error) from error
        if not self._heard or self._engine.unsent or self._engine.peer_closed:
            self._after_opening(count)
        return self._decrypted[:count] if count else None

    def transmit(self, data: bytes | memoryview) -> bool:
        try:
            sealed = self._engine.seal(data)
        except HandshakeError as error:
            raise self._broken(error) from error
        return self._put(sealed)

    def finish(self) -> bool:
        self._finishing = True
        try:
            self._engine.close_write()
        except HandshakeError as error:
            raise self._broken(error) from error
        return self._put(self._engine.outgoing())

    def _after_opening(self, count: int) -> None:
        if count and not self._heard:
            self._heard = True
            self._engine.keep_session()  # a server's ticket comes before its first data
        self.ended = self._engine.peer_closed
        if self.ended:
            self._forget_session()
        self._answer()

    def _forget_session(self) -> None:
        """Where nothing was heard at the end: a server that refuses whom it lets resume is not to be asked so again."""
        if not self._heard:
            self._engine.forget_session()

    def _answer(self) -> None:
        """Send what TLS answers by itself (KeyUpdate, an alert). What the kernel does not take is ``owed``."""
        answer = self._engine.outgoing()
        if answer and not self._finishing and not self._put(answer):
            self.owed += len(answer)

    def parting(self) -> Parting:
        """To be told to the peer to the end, rather than closed with a reset over what it still sends."""
        return Parting(self.sock, bytes(self._rest))

    def _broken(self, error: HandshakeError) -> EndedError:
        self._forget_session()
        # To a TLS 1.3 client its handshake looks done before the server has judged it: the refusal comes here.
        outcome = Outcome.RESET if self._heard else Outcome.HANDSHAKE_FAILED
        alert = self._engine.outgoing()
        if not alert or self._finishing:  # nothing follows a close_notify
            return EndedError(outcome, str(error))
        with contextlib.suppress(EndedError):
            self._put(alert)
        return EndedError(outcome, str(error), self.parting())


def _kept(data: bytes | memoryview, sent: int) -> bytes | memoryview:
    # A view of bytes keeps them alive without a copy; a view of a shared buffer has to be copied out of it.
    rest = memoryview(data)[sent:]
    return rest if isinstance(rest.obj, bytes) else bytes(rest)
