"""What a relay joins: ``End``, and the two kinds that have a socket, plain TCP and TLS over it.

The third kind is a stream of a tunnel (``tunnel/stream_end.py``). Nothing here waits: ``receive`` makes one read, and
``transmit`` sends what the kernel takes and keeps the rest for ``flush``. A relay receives no more for an end that has
a rest, so an end holds at most the bytes of one ``receive`` and a bounded amount of TLS's own responses. Only a source
that can't be stopped (``End.pushes``) adds to a rest, and at most as much as its stream's window.

All ends of an event loop share its reactor's buffers: one for what comes in and one for what is decrypted from it. Both
are free again when a callback returns, so an idle connection holds none.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from meshtls.errors import AlertError, HandshakeError
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Parting
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.reactor import LARGEST_RECEIVE, Buffers
from meshtls.sidecar.sockets import error_of
from meshtls.tls.engine import TlsEngine
from meshtls.tls.origination import OriginatedTls

__all__ = ["LARGE", "SMALL", "Callback", "End", "PlainEnd", "TlsEnd"]

# Holds close_notify back until the FIN that follows, so that the peer is woken once for both.
_WITH_FIN: int = getattr(socket, "MSG_MORE", 0)

#: Bytes of one receive: the larger after a receive that filled the smaller, and back after one that did not.
SMALL, LARGE = 1 << 16, LARGEST_RECEIVE

Callback = Callable[[], None] | None


class End(Protocol):
    """One side of a relay. Every call but ``room`` and ``watch`` raises EndedError if the connection broke."""

    #: A clean end was received (FIN, close_notify, END_STREAM): nothing more comes.
    ended: bool
    #: Bytes of TLS's own responses (KeyUpdate) that ``flush`` has to send.
    owed: int

    @property
    def pushes(self) -> bool:
        """``receive`` has to be called whenever bytes arrive, also while the sink has a rest. ``settle`` limits their
        number: it returns credit for what the sink has sent.
        """

    @property
    def windowed(self) -> bool:
        """``room`` and ``discards`` have to be read before each ``transmit``. A socket needs neither."""

    @property
    def discards(self) -> bool:
        """Nobody reads what is transmitted any more. It is dropped, and does not reset the idle timeout."""

    @property
    def unsent(self) -> int:
        """Bytes of the rest that ``flush`` has to send, ``owed`` among them."""

    def room(self) -> int:
        """How many bytes ``transmit`` can send now within the windows; none at 0 or less."""

    def unread(self, data: bytes) -> None:
        """Give these bytes, which were received before the relay begins, once more: ``first`` returns them."""

    def first(self, limit: int) -> bytes | memoryview:
        """Application bytes that arrived before the relay began, valid until the next call of any end. ``limit`` bounds
        what is received in this call.
        """

    def receive(self, limit: int) -> bytes | memoryview | None:
        """What has arrived, valid until the next call of any end; None if there is nothing yet or ``ended``."""

    def transmit(self, data: bytes | memoryview) -> bool:
        """Send; False if a rest is kept that ``flush`` has to send."""

    def flush(self) -> bool:
        """Send the rest; True if none is left."""

    def finish(self, last: bool = False) -> bool:
        """Send the end (FIN, close_notify, END_STREAM); this side can still be received from. False as ``transmit``.

        ``last``: the relay ends with this, and the end is closed at once.
        """

    def settle(self, unsent: int) -> None:
        """The sink has sent all that ``receive`` gave but this many bytes: return credit for the others."""

    def check(self) -> None:
        """Raise if the connection broke: for an end that is neither received from nor sent to."""

    def watch(self, poller: Poller, read: Callback, write: Callback, broken: Callback = None) -> None:
        """Replace the callbacks: ``read`` when there is something to receive, ``write`` when the rest can be flushed,
        and ``broken``, if both are None, when the connection broke. They must not raise. Without any, the end is not
        watched.
        """


class _Socket:
    """What both kinds do with their socket."""

    __slots__ = (
        "_buffers",
        "_finishing",
        "_first",
        "_name",
        "_rest",
        "_size",
        "_waited",
        "ended",
        "owed",
        "sock",
        "unsent",
    )

    pushes = windowed = discards = False

    def __init__(
        self, sock: socket.socket, name: str, buffers: Buffers, first: bytes = b"", *, waited: bool = False
    ) -> None:
        """``first`` was read before; ``waited``: more may have arrived since the accept."""
        self.sock = sock
        self.ended = False
        self.owed = self.unsent = 0
        self._name = name
        self._buffers = buffers
        self._first = first
        self._waited = waited
        self._size = SMALL
        #: ``unsent`` is its length, asked for more often than it changes.
        self._rest: bytes | bytearray | memoryview = b""
        self._finishing = False

    def room(self) -> int:
        return LARGE

    def unread(self, data: bytes) -> None:
        self._first = data + self._first

    def flush(self) -> bool:
        rest, self._rest, self.unsent = self._rest, b"", 0
        if not self._put(rest):
            return False
        self.owed = 0
        return True

    def settle(self, unsent: int) -> None:
        """Nothing to do: TCP returns the credit as bytes are read."""

    def watch(self, poller: Poller, read: Callback, write: Callback, broken: Callback = None) -> None:
        poller.watch(self.sock, read, write, broken)

    def check(self) -> None:
        error = error_of(self.sock)
        if error is not None:
            raise EndedError(Outcome.RESET, f"{self._name} broke off: {error}")

    def _put(self, data: bytes | bytearray | memoryview) -> bool:
        if self.unsent:
            if not isinstance(self._rest, bytearray):
                self._rest = bytearray(self._rest)
            self._rest += data
            self.unsent += len(data)
            return False
        try:
            sent = self.sock.send(data, _WITH_FIN if self._finishing else 0) if data else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} takes no more: {error}") from error
        if sent < len(data):
            self.unsent = len(data) - sent
            self._rest = _keep_rest(data, sent)
            return False
        if self._finishing:
            self._shut()
        return True

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if not self.ended:  # else it had sent everything before it left: nothing is cut off
                raise EndedError(Outcome.RESET, f"{self._name} is gone: {error}") from error


class PlainEnd(_Socket):
    """A plain TCP socket."""

    __slots__ = ()

    def first(self, limit: int = LARGE) -> bytes | memoryview:
        first, self._first = self._first, b""
        if first:
            return first
        received = self.receive(limit) if self._waited and limit > 0 else None
        return received or b""

    def receive(self, limit: int = LARGE) -> memoryview | None:
        # Begins as ``TlsEnd.receive`` does: a call would add one percent to the cost of a message.
        size, buffers = self._size, self._buffers
        try:
            count = self.sock.recv_into(buffers.received, size if size < limit else limit)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} broke off: {error}") from error
        if count == size:
            self._size = LARGE
        elif count < SMALL:
            self._size = SMALL
            if not count:
                self.ended = True
                return None
        latest = buffers.latest = buffers.received[:count]
        return latest

    transmit = _Socket._put

    def finish(self, last: bool = False) -> bool:
        self._finishing = True
        if self.unsent:
            return False
        if not last:  # closing sends the same FIN, which saves a system call for each stream of a tunnel
            self._shut()
        return True


class TlsEnd(_Socket):
    """A TCP socket and the TLS over it. The last bytes of our handshake are sent with the first application bytes."""

    __slots__ = ("_engine", "_heard")

    def __init__(self, sock: socket.socket, engine: TlsEngine | OriginatedTls, name: str, buffers: Buffers) -> None:
        super().__init__(sock, name, buffers)
        self._engine = engine
        self._heard = False

    def first(self, limit: int = LARGE) -> bytes:
        first, self._first = self._first, b""
        try:
            plain = first + self._engine.read()
        except HandshakeError as error:
            raise self._broken(error) from error
        self._after_opening(len(plain))
        return plain

    def receive(self, limit: int = LARGE) -> memoryview | None:
        size, buffers, engine = self._size, self._buffers, self._engine
        try:
            count = self.sock.recv_into(buffers.received, size if size < limit else limit)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} broke off: {error}") from error
        if count == size:
            self._size = LARGE
        elif count < SMALL:
            self._size = SMALL
            if not count:
                self._forget_session()
                raise EndedError(Outcome.RESET, f"{self._name} ended its TCP connection without close_notify")
        try:
            plain = engine.open(buffers.received[:count], buffers.decrypted)
        except HandshakeError as error:
            raise self._broken(error) from error
        if not self._heard or engine.unsent or engine.peer_closed:
            self._after_opening(plain)
        return buffers.decrypted[:plain] if plain else None

    def transmit(self, data: bytes | bytearray | memoryview) -> bool:
        try:
            sealed = self._engine.seal(data)
        except HandshakeError as error:
            raise self._broken(error) from error
        return self._put(sealed)

    def finish(self, last: bool = False) -> bool:
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
        # TLS's own responses (KeyUpdate, an alert). What the kernel does not take of them is ``owed``.
        answer = self._engine.outgoing()
        if answer and not self._finishing and not self._put(answer):
            self.owed += len(answer)

    def _forget_session(self) -> None:
        """Only if the server sent no data: it may accept the resumption and then refuse us, each time again."""
        if not self._heard:
            self._engine.forget_session()

    def parting(self) -> Parting:
        """The socket, to be closed with a linger: a reset over what the peer still sends would overtake the alert."""
        return Parting(self.sock, bytes(self._rest))

    def _broken(self, error: HandshakeError) -> EndedError:
        self._forget_session()
        # A TLS 1.3 client finishes its handshake before the server has checked it: a refusal arrives here.
        outcome = Outcome.RESET if self._heard else Outcome.HANDSHAKE_FAILED
        received = error.alert if isinstance(error, AlertError) else None
        alert = self._engine.outgoing()
        if not alert or self._finishing:  # nothing follows a close_notify
            return EndedError(outcome, str(error), alert=received)
        with contextlib.suppress(EndedError):
            self._put(alert)
        return EndedError(outcome, str(error), self.parting(), alert=received)


def _keep_rest(data: bytes | bytearray | memoryview, sent: int) -> bytes | bytearray | memoryview:
    if isinstance(data, bytearray):  # a rest that grew, and is this end's own
        del data[:sent]
        return data
    # A view of ``bytes`` keeps them alive without a copy; bytes in a shared buffer have to be copied out.
    rest = memoryview(data)[sent:]
    return rest if isinstance(rest.obj, bytes) else bytearray(rest)
