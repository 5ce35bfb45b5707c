"""An ``ssl.SSLObject`` and an ``ssl.SSLSocket`` that do not finish a handshake before the peer is judged.

``SSLContext.sslobject_class`` and ``sslsocket_class`` are public hooks, so whatever uses a context of ours (asyncio,
uvloop, httpx, aiohttp, urllib3, grpclib ...) gets connections that verify and authorize by themselves.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from meshtls.errors import (
    HandshakeError,
    InvalidSvidError,
    LocalIdentityError,
    PeerError,
    PlaintextError,
    UntrustedPeerError,
    ValidityError,
)
from meshtls.logs import logger
from meshtls.svid.presented import MAX_CHAIN
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.failures import RefusedHandshake, peer_error
from meshtls.tls.handshake_budget import LARGE_HANDSHAKE, SERVER_HANDSHAKE, SMALL_HANDSHAKE, LargeHandshakes
from meshtls.tls.peer import leaf_of, presented_chain
from meshtls.tls.unusable import NoIdentityError
from meshtls.wire.tls import IMPOSSIBLE_KEY_UPDATE, ContentType, HandshakeType, certificates_of_message

__all__ = [
    "Judge",
    "LastingJudge",
    "VerifyingSSLObject",
    "VerifyingSSLSocket",
    "bounded",
    "preview",
]

log = logger("meshtls.tls")

# The callback of a context is called with plain numbers, for each message of each handshake.
_HANDSHAKE, _CERTIFICATE = int(ContentType.HANDSHAKE), int(HandshakeType.CERTIFICATE)

# Stand-ins for a connection's context, exchanged for it by the ``context`` setter (SSL_set_SSL_CTX). The first has an
# empty trust store, so that OpenSSL refuses; the second has no message callback, which would cost two calls a record.
_REFUSES = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_QUIET = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_QUIET.verify_mode = ssl.CERT_REQUIRED  # the connection's is set already; by this one getpeercert() shows the names
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Judge(Protocol):
    """Decides whether a presented chain may talk to us: met by the context of one generation."""

    def judge(self, chain: Sequence[bytes], port: int | None) -> VerifiedPeer:
        """Raises PeerError where it may not."""


@runtime_checkable
class LastingJudge(Judge, Protocol):
    """One that takes resumed sessions, too."""

    def judge_again(self, leaf: bytes, port: int | None) -> VerifiedPeer:
        """The same of a peer that resumed a session, which shows its leaf and no chain."""


class _Judged:
    """What the two classes share. ``peer`` is set exactly when the peer is verified and authorized."""

    peer: VerifiedPeer | None = None
    refusal: PeerError | None = None
    #: The peer was refused when the handshake was over, and has heard no alert.
    refused_late = False
    port: int | None = None
    #: Callers that own the wire (asyncio) drop what OpenSSL still wants to send when a handshake raises. Where this is
    #: set they are first told "want read", on which they do send it, and hear of the failure on their next call.
    send_alert_first = False

    _judge: Judge | None = None
    _previewed: tuple[bytes, VerifiedPeer] | None = None
    _late: ssl.SSLError | None = None

    if TYPE_CHECKING:
        context: Any
        session_reused: Any

        def _cut_off(self) -> None: ...

    def _preview(self, chain: list[bytes]) -> None:
        """The early verdict, when the Certificate message has arrived: refuse within the handshake."""
        try:
            self._previewed = chain[0], self._the_judge().judge(chain, self.port)
        except PeerError as error:
            self.refusal = error
            if not isinstance(error, ValidityError):  # for that one OpenSSL has an alert of its own, and a clock
                self.context = _REFUSES

    def _the_judge(self) -> Judge:
        if self._judge is None:
            context = self.context
            if not hasattr(context, "judge"):  # isinstance(context, Judge) costs 20 µs
                raise TypeError(f"wanted the context of one generation, got {type(context).__name__}")
            self._judge = context
        return self._judge

    def _judging(self, handshake: Callable[[], None]) -> None:
        """Take OpenSSL's step, and let it end with our verdict."""
        self._the_judge()
        if self._late is not None:
            raise self._late
        try:
            handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise self._failure(error) from error
        self._finish(resumed=self.session_reused)

    def _finish(self, *, resumed: bool | None) -> None:
        """The verdict that counts: the handshake is over, so the peer holds the key of what it presented."""
        if self.peer is not None:
            return
        try:
            if self.refusal is not None:
                raise self.refusal
            self.peer = self._judged_again() if resumed else self._judged_peer()
        except PeerError as error:
            self.refusal, self.refused_late = error, True
            self._cut_off()
            raise self._failure(RefusedHandshake(error)) from error
        self._previewed = None
        self.context = _QUIET

    def _judged_peer(self) -> VerifiedPeer:
        leaf = leaf_of(self)  # type: ignore[arg-type]  # the mixin is always an SSLObject or SSLSocket
        if self._previewed is not None and self._previewed[0] == leaf:
            # What the peer has proven is that it holds this leaf's key. The chain was only the way to a root.
            return self._previewed[1]
        chain = presented_chain(self)  # type: ignore[arg-type]  # as above
        return self._the_judge().judge(chain, self.port)

    def _judged_again(self) -> VerifiedPeer:
        judge = self._the_judge()
        if not isinstance(judge, LastingJudge):
            raise UntrustedPeerError("the peer resumed a session, and no chain came with it to verify")
        return judge.judge_again(leaf_of(self), self.port)  # type: ignore[arg-type]  # as above

    def _failure(self, error: ssl.SSLError) -> ssl.SSLError:
        """What to raise now for a handshake that failed with ``error``."""
        refused = RefusedHandshake(self.refusal) if self.refusal is not None else error
        reason = peer_error(refused)
        # Who speaks plaintext reads no alert and may wait for an answer: no second call would come for a long time.
        if not self.send_alert_first or isinstance(reason, PlaintextError):
            return refused
        log.info("refused: %s", reason)
        self._late = refused
        return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert has to be sent")


def preview(
    connection: ssl.SSLObject | ssl.SSLSocket, direction: str, version: int, kind: int, message: int, data: bytes
) -> None:
    """The message callback of a context: passes the peer's Certificate message on to its connection."""
    if message != _CERTIFICATE or kind != _HANDSHAKE or direction != "read":
        return
    if not isinstance(connection, _Judged):
        return
    try:
        chain = certificates_of_message(version, data, limit=MAX_CHAIN)
    except ValueError as error:
        connection.refusal = InvalidSvidError(f"the peer's Certificate message is malformed: {error}")
        connection.context = _REFUSES
        return
    if chain:  # an empty list is OpenSSL's to refuse, with the alert for just that
        connection._preview(chain)


class VerifyingSSLObject(_Judged, ssl.SSLObject):
    """Memory-BIO TLS, as asyncio and the sidecar use it.

    A peer that is refused late is not sent close_notify, by which the refusal would look like an answer that is empty
    and complete. What it has sent is dropped; where the caller puts behind it what can't be, OpenSSL sends an alert.

    OpenSSL is shown no more of the peer's part of a handshake than ``allowance`` bytes, or LARGE_HANDSHAKE where
    ``large`` has room for one more such peer.
    """

    #: Where OpenSSL reads from, to be set by whoever makes the connection; without it the bound is OpenSSL's.
    incoming: ssl.MemoryBIO | None = None
    allowance = SMALL_HANDSHAKE
    large: LargeHandshakes | None = None
    _is_large = False
    _shown_bytes = 0

    def do_handshake(self) -> None:
        """Raises RefusedHandshake where the peer is not believed or not allowed, or says more than it may."""
        incoming = self.incoming
        if incoming is None or self.peer is not None:
            self._judging(super().do_handshake)
            return
        while not self._shown(incoming):
            self._extend(incoming)
        if self.large is not None:
            self.large.accepted(self._shown_bytes)
            if self._is_large:
                self.large.give_back()

    def _shown(self, incoming: ssl.MemoryBIO) -> bool:
        """Let OpenSSL go on with what it may see; False where that was too little and there is more.

        What is held back meanwhile may be application data, which is for later.
        """
        held = b""
        if incoming.pending > self.allowance:
            data = incoming.read()
            incoming.write(data[: self.allowance])
            held = data[self.allowance :]
        given = incoming.pending
        try:
            self._judging(super().do_handshake)
        except ssl.SSLWantReadError:
            if not held or self._late is not None:
                raise
            return False
        finally:
            self.allowance -= given - incoming.pending
            self._shown_bytes += given - incoming.pending
            if held:
                incoming.write(held)
        return True

    def _extend(self, incoming: ssl.MemoryBIO) -> None:
        large = self.large
        if large is not None and not self._is_large and large.take():
            self._is_large = True
            self.allowance = LARGE_HANDSHAKE - self._shown_bytes
            return
        why = "the peer's part of the handshake has more than"
        if large is None or self._is_large:
            self.refusal = HandshakeError(f"{why} {self._shown_bytes} bytes, which are the most that are read")
        else:
            self.refusal = HandshakeError(
                f"{why} {self._shown_bytes} bytes, which no peer needed that was accepted here, and too many such came"
                " to nothing just now"
            )
        incoming.read()
        incoming.write(IMPOSSIBLE_KEY_UPDATE)
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            raise self._failure(error) from error

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # ssl's own name
        if self.peer is None:
            self.do_handshake()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        if self.peer is None:
            self.do_handshake()
        return super().write(data)

    def _cut_off(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            while super().read(1 << 14):
                pass


def bounded(connection: ssl.SSLObject, incoming: ssl.MemoryBIO, large: LargeHandshakes | None = None) -> ssl.SSLObject:
    """A new connection that reads from this BIO, with its allowance set; ``large`` is for a server."""
    if isinstance(connection, VerifyingSSLObject):
        connection.incoming, connection.large = incoming, large
        small = large.small if large is not None else SMALL_HANDSHAKE
        connection.allowance = small if connection.server_side else SERVER_HANDSHAKE
    return connection


class VerifyingSSLSocket(_Judged, ssl.SSLSocket):
    """Blocking TLS on a socket, as urllib3 uses it. OpenSSL writes to the socket itself, so its alerts are sent.

    Closing one whose peer was refused late resets the connection, for the reason that VerifyingSSLObject gives.
    """

    #: Wraps what a listening socket accepts: the context of the whole life and not of the generation of its beginning.
    accepting: ssl.SSLContext | None = None
    # ssl's own, which its stubs leave out.
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool

    def accept(self) -> tuple[ssl.SSLSocket, Any]:
        """Each connection has the newest identity and trust. Raises OSError, NoIdentityError among them."""
        connection, address = socket.socket.accept(self)
        try:
            return self._wrapped(connection), address
        except BaseException:
            connection.close()
            raise

    def _wrapped(self, connection: socket.socket) -> ssl.SSLSocket:
        try:
            return (self.accepting or self.context).wrap_socket(
                connection,
                server_side=True,
                do_handshake_on_connect=self.do_handshake_on_connect,
                suppress_ragged_eofs=self.suppress_ragged_eofs,
            )
        except LocalIdentityError as error:
            raise NoIdentityError(error) from error

    def do_handshake(self, block: bool = False) -> None:
        """Raises RefusedHandshake where the peer is not believed or not allowed."""
        # gevent's takes no ``block``.
        self._judging(partial(super().do_handshake, block) if block else super().do_handshake)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # ssl's own name
        if self.peer is None:
            self.do_handshake()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        if self.peer is None:
            self.do_handshake()
        return super().write(data)

    def send(self, data: Any, flags: int = 0) -> int:
        if self.peer is None:
            self.do_handshake()
        return super().send(data, flags)

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
