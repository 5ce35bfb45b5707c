"""An ``ssl.SSLObject`` and an ``ssl.SSLSocket`` that do not finish a handshake before the peer is checked.

``SSLContext.sslobject_class`` and ``sslsocket_class`` are public hooks, so whatever uses a context of ours (asyncio,
uvloop, httpx, aiohttp, urllib3, grpclib ...) gets connections that verify their peers by themselves.

A peer is checked once, and accepted once it has also proven its key:

1. ``on_message`` is OpenSSL's message callback. When the peer's Certificate message arrives, before OpenSSL acts on it,
   it has the context verify the chain and run its precheck. If that fails, the connection's trust store is exchanged
   for an empty one, and OpenSSL itself refuses, with a fatal alert. If it succeeds, nothing is accepted yet: anyone can
   send a certificate.
2. ``_accept_peer`` runs when the handshake is complete, which proves that the peer holds the key of its leaf (by its
   CertificateVerify or, in a resumed session, by the session's secret). If the leaf is the one that was checked early,
   that result now counts. Otherwise the check is made now: if there was no early one, and for a resumed session, in
   which no Certificate message is sent.

The check is the context's (``PeerCheck``): verification, and a precheck that can only refuse. A refusal in step 2 comes
too late for an alert within the handshake; see ``refused_late``.
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
from meshtls.spiffeid import SpiffeId
from meshtls.svid.presented import MAX_CHAIN
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.alerts import provoke_alert
from meshtls.tls.failures import NoIdentityError, RefusedHandshake, peer_error
from meshtls.tls.handshake_budget import LARGE_HANDSHAKE, SERVER_HANDSHAKE, SMALL_HANDSHAKE, LargeHandshakes
from meshtls.tls.peer import leaf_of, presented_chain, watch_messages
from meshtls.wire.tls import (
    ContentType,
    HandshakeType,
    certificates_of_message,
    client_random_of_message,
    server_name_of_message,
)
from meshtls.wire.transcript import Transcript

__all__ = [
    "LiveTrust",
    "PeerCheck",
    "ResumedPeerCheck",
    "VerifyingSSLObject",
    "VerifyingSSLSocket",
    "bounded",
    "on_message",
]

log = logger("meshtls.tls")

# The callback of a context is called with plain numbers, for each message of each handshake.
_HANDSHAKE, _ALERT, _CLOSE_NOTIFY = int(ContentType.HANDSHAKE), int(ContentType.ALERT), 0
_CLIENT_HELLO, _CERTIFICATE = int(HandshakeType.CLIENT_HELLO), int(HandshakeType.CERTIFICATE)

# Stand-ins for a connection's context, exchanged for it by the ``context`` setter (SSL_set_SSL_CTX). The first has an
# empty trust store, so that OpenSSL refuses; the second has no message callback, which would cost two calls a record.
_REFUSES = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_QUIET = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_QUIET.verify_mode = ssl.CERT_REQUIRED  # for getpeercert() alone: the connection keeps its own setting
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PeerCheck(Protocol):
    """Verifies a presented chain and runs the precheck. The context of one generation implements it."""

    def check_peer(self, chain: Sequence[bytes], port: int | None) -> VerifiedPeer:
        """Verify this chain. ``port`` is the local port that the peer requests. Raises PeerError."""


@runtime_checkable
class ResumedPeerCheck(PeerCheck, Protocol):
    """A PeerCheck whose connections may be resumed sessions."""

    def check_resumed_peer(self, leaf: bytes, port: int | None) -> VerifiedPeer:
        """As ``check_peer``, for a peer that resumed a session, of which only the leaf is known."""


class LiveTrust(Protocol):
    """Whether the peer of a live connection is still trusted."""

    def refusal(self, peer: VerifiedPeer) -> PeerError | None:
        """Why the present trust refuses this peer; None where it does not. Once refused, it stays so."""


class _ChecksPeer:
    """What the two classes share. ``peer`` is set exactly when the peer is verified, passed the precheck and has proven
    its key.
    """

    peer: VerifiedPeer | None = None
    refusal: PeerError | None = None
    #: The peer was refused after the handshake was complete, and has received no alert.
    refused_late = False
    port: int | None = None
    #: The server name in the ClientHello that we, as a server, received (RFC 6066, section 3).
    sni: str | None = None
    #: The random bytes of the ClientHello, sent or received: both sides know them from the first message on (RFC 8446,
    #: section 4.1.2).
    client_random = b""
    #: A handshake message of the peer was read: it speaks TLS.
    heard = False
    #: The last alerts within the handshake, but for close_notify.
    alert_sent: int | None = None
    alert_received: int | None = None
    #: Some callers (asyncio) drop OpenSSL's pending output when a handshake raises. If this is set, the handshake first
    #: raises "want read", on which they send it, and the failure on their next call.
    send_alert_first = False
    #: Asked after each read and before each write. None where the connection's owner ends it when trust changes.
    live_trust: LiveTrust | None = None

    #: Filled with the handshake's messages; None if nothing records them.
    transcript: Transcript | None = None

    _check: PeerCheck | None = None
    #: The leaf that was checked early, and the result.
    _checked_early: tuple[bytes, VerifiedPeer] | None = None
    _held_error: ssl.SSLError | None = None

    if TYPE_CHECKING:
        context: Any
        session_reused: Any

        def _cut_off(self) -> None: ...

    @property
    def local_id(self) -> SpiffeId | None:
        """The ID that this side presented. None before the handshake, and for a side that presented none."""
        return getattr(self._check, "local_id", None)

    def _peer_check(self) -> PeerCheck:
        """The check of the context that the connection began with: later the connection has another context."""
        if self._check is None:
            context = self.context
            if not hasattr(context, "check_peer"):  # isinstance(context, PeerCheck) costs 20 µs
                raise TypeError(f"wanted the context of one generation, got {type(context).__name__}")
            self._check = context
        return self._check

    def _run_handshake(self, step: Callable[[], None]) -> None:
        """Take OpenSSL's next step of the handshake. The last one ends with the peer accepted, or raises."""
        self._peer_check()
        if self._held_error is not None:
            raise self._held_error
        try:
            step()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise self._failure(error) from error
        if self.peer is None:
            self._accept_peer()

    def _accept_peer(self) -> None:
        """The handshake is complete, and so the peer holds the key of its leaf: accept it if it passes the check."""
        try:
            if self.refusal is not None:
                raise self.refusal
            leaf = leaf_of(self)  # type: ignore[arg-type]  # the mixin is always an SSLObject or SSLSocket
            if self.session_reused:
                self.peer = self._check_resumed(leaf)
            elif self._checked_early is not None and self._checked_early[0] == leaf:
                self.peer = self._checked_early[1]
            else:
                chain = presented_chain(self)  # type: ignore[arg-type]  # as above
                self.peer = self._peer_check().check_peer(chain, self.port)
        except PeerError as error:
            self.refusal, self.refused_late = error, True
            self._cut_off()
            raise self._failure(RefusedHandshake(error)) from error
        self._checked_early = None
        self.context = _QUIET

    def _check_resumed(self, leaf: bytes) -> VerifiedPeer:
        check = self._peer_check()
        if not isinstance(check, ResumedPeerCheck):
            raise UntrustedPeerError("the peer resumed a session, and no chain came with it to verify")
        return check.check_resumed_peer(leaf, self.port)

    def _check_trust(self) -> None:
        """Raises RefusedHandshake if the peer is no longer trusted."""
        refusal = self.live_trust.refusal(self.peer) if self.live_trust is not None and self.peer is not None else None
        if refusal is not None:
            raise RefusedHandshake(refusal)

    def _failure(self, error: ssl.SSLError) -> ssl.SSLError:
        """What to raise now for a handshake that failed with ``error``."""
        refused = RefusedHandshake(self.refusal) if self.refusal is not None else error
        reason = peer_error(refused, begun=self.heard)
        # A peer that speaks plaintext reads no alert, and may wait for a response: no next call would come for long.
        if not self.send_alert_first or isinstance(reason, PlaintextError):
            return refused
        log.info("refused: %s", reason)
        self._held_error = refused
        return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert has to be sent")


def on_message(
    connection: ssl.SSLObject | ssl.SSLSocket, direction: str, version: int, kind: int, message: int, data: bytes
) -> None:
    """The message callback of a context: notes alerts, a ClientHello's random bytes and server name, and checks the
    peer's certificates.
    """
    if kind == _ALERT and message != _CLOSE_NOTIFY and isinstance(connection, _ChecksPeer):
        if direction == "read":
            connection.alert_received = message
        else:
            connection.alert_sent = message
        if connection.transcript is not None:
            connection.transcript.note(direction, message, data, alert=True)
    if kind != _HANDSHAKE or not isinstance(connection, _ChecksPeer):
        return
    if connection.transcript is not None:
        connection.transcript.note(direction, message, data)
    if direction == "read":
        connection.heard = True
    if message not in (_CERTIFICATE, _CLIENT_HELLO):
        return
    if message == _CLIENT_HELLO:
        connection.client_random = client_random_of_message(data)
    if direction != "read":
        return
    if message == _CLIENT_HELLO:
        connection.sni = server_name_of_message(data)
        return
    try:
        chain = certificates_of_message(version, data, limit=MAX_CHAIN)
    except ValueError as error:
        connection.refusal = InvalidSvidError(f"the peer's Certificate message is malformed: {error}")
        connection.context = _REFUSES
        return
    if not chain:
        return  # OpenSSL refuses an empty list itself, with the alert for that
    try:
        connection._checked_early = chain[0], connection._peer_check().check_peer(chain, connection.port)
    except PeerError as error:
        connection.refusal = error
        if not isinstance(error, ValidityError):  # OpenSSL checks the time too, and sends its own alert for it
            connection.context = _REFUSES


watch_messages(_REFUSES, on_message)  # for the alert of the refusal


class VerifyingSSLObject(_ChecksPeer, ssl.SSLObject):
    """Memory-BIO TLS, as asyncio and the sidecar use it.

    A peer that is refused late is not sent close_notify, which would make the refusal look like an empty, complete
    response. What it has sent is dropped. If the caller then feeds an impossible message, OpenSSL sends an alert.

    OpenSSL is shown at most ``allowance`` bytes of the peer's part of a handshake, or LARGE_HANDSHAKE where ``large``
    has room for one more such peer.
    """

    #: Where OpenSSL reads from (see ``bounded``); without it, the limit is OpenSSL's own.
    incoming: ssl.MemoryBIO | None = None
    allowance = SMALL_HANDSHAKE
    large: LargeHandshakes | None = None
    _is_large = False
    _shown_bytes = 0

    def do_handshake(self) -> None:
        """Raises RefusedHandshake where the peer is not verified or not allowed, or sends more than it may."""
        incoming = self.incoming
        if incoming is None or self.peer is not None:
            self._run_handshake(super().do_handshake)
            return
        while not self._step_within_allowance(incoming):
            self._extend(incoming)
        if self.large is not None:
            self.large.accepted(self._shown_bytes)
            if self._is_large:
                self.large.give_back()

    def _step_within_allowance(self, incoming: ssl.MemoryBIO) -> bool:
        """Run the handshake with at most ``allowance`` bytes of input. False if it needs more, and more has arrived.

        The bytes beyond may be application data, which is read after the handshake.
        """
        held = b""
        if incoming.pending > self.allowance:
            data = incoming.read()
            incoming.write(data[: self.allowance])
            held = data[self.allowance :]
        given = incoming.pending
        try:
            self._run_handshake(super().do_handshake)
        except ssl.SSLWantReadError:
            if not held or self._held_error is not None:
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
            self.refusal = HandshakeError(f"{why} {self._shown_bytes} bytes, which is the limit")
        else:
            self.refusal = HandshakeError(
                f"{why} {self._shown_bytes} bytes, more than any accepted peer needed, and too many such handshakes"
                " have just failed"
            )
        incoming.read()
        try:
            provoke_alert(incoming.write, super().do_handshake)
        except ssl.SSLError as error:
            raise self._failure(error) from error

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # ssl's own name
        if self.peer is None:
            self.do_handshake()
        got = super().read(len, buffer)
        self._check_trust()
        return got

    def write(self, data: Any) -> int:
        if self.peer is None:
            self.do_handshake()
        self._check_trust()
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


class VerifyingSSLSocket(_ChecksPeer, ssl.SSLSocket):
    """Blocking TLS on a socket, as urllib3 uses it. OpenSSL writes to the socket itself, so its alerts are sent.

    Closing one whose peer was refused late resets the connection, for the reason that VerifyingSSLObject gives.
    """

    #: Wraps accepted connections: a context that follows the generations, not the one the listener was wrapped with.
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
        """Raises RefusedHandshake where the peer is not verified or not allowed."""
        # gevent's takes no ``block``.
        self._run_handshake(partial(super().do_handshake, block) if block else super().do_handshake)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # ssl's own name
        if self.peer is None:
            self.do_handshake()
        got = super().read(len, buffer)
        self._check_trust()
        return got

    def write(self, data: Any) -> int:
        if self.peer is None:
            self.do_handshake()
        self._check_trust()
        return super().write(data)

    def send(self, data: Any, flags: int = 0) -> int:
        if self.peer is None:
            self.do_handshake()
        self._check_trust()
        return super().send(data, flags)

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
