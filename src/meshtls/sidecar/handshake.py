"""The phases before the relay: the first bytes, a handshake that sends the peer an alert if it is refused, connect."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, TypeVar

from meshtls.address import Address, os_reason
from meshtls.errors import (
    ClosedEarlyError,
    HandshakeError,
    HandshakeTimeoutError,
    NotAuthorizedError,
    PeerError,
    PlaintextError,
)
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.recorded_engine import RecordedTlsEngine
from meshtls.sidecar.scheduler import PeerTimeout, QueueDeadline
from meshtls.sidecar.settings import InboundConfig, KeyExchange, Limits, OutboundConfig, TlsMinimum
from meshtls.sidecar.sockets import CHUNK, abort, dial, dial_at_once, readable, receive, send_all
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.wire_file import WireFile
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext, TlsOptions
from meshtls.tls.engine import TlsEngine
from meshtls.tls.unproven import Stage
from meshtls.wire.tls import INTERNAL_ERROR_ALERT, Alert, FirstBytes, alert_for, alert_name, first_bytes_of

__all__ = [
    "HTTP1",
    "HTTP2",
    "client_handshake",
    "client_hello",
    "connect",
    "connect_at_once",
    "drop_dialled",
    "first_bytes",
    "first_bytes_now",
    "refuse_after_handshake",
    "server_handshake",
    "speaks_http2",
    "tell_no_identity",
    "tls_options",
]

#: The ALPN protocols by which HBONE peers agree on a tunnel (RFC 9113, section 3.2).
HTTP2 = ("h2",)
#: RFC 7301, section 6.
HTTP1 = ("http/1.1",)
_VERSIONS = {TlsMinimum.V1_2: ssl.TLSVersion.TLSv1_2, TlsMinimum.V1_3: ssl.TLSVersion.TLSv1_3}
_GROUPS = {
    KeyExchange.LIBRARY: None,
    KeyExchange.X25519: "X25519",
    KeyExchange.P256: "prime256v1",
    KeyExchange.P384: "secp384r1",
}

P = TypeVar("P")
Proven = TypeVar("Proven", covariant=True)


class Handshaking(Protocol[Proven]):
    """One end's engine, as far as a handshake needs it."""

    def handshake(self) -> Proven | None:
        """Take one step; None if more input is needed. Raises PeerError."""

    def feed(self, data: bytes) -> None: ...

    def feed_eof(self) -> None: ...

    def outgoing(self) -> bytes: ...

    def refusal(self) -> bytes:
        """What to send after ``handshake`` raised."""


async def first_bytes(sock: socket.socket, so_far: bytearray, poller: Poller) -> FirstBytes:
    """Read into ``so_far`` until it shows whether the peer speaks TLS, or the peer ends. Cancellation loses no byte."""
    while (shown := first_bytes_now(sock, so_far)) is None:
        await readable(sock, poller)
    return shown


def first_bytes_now(sock: socket.socket, so_far: bytearray) -> FirstBytes | None:
    """As ``first_bytes``, without waiting: the first packet has mostly arrived. None if more bytes are needed."""
    while (shown := first_bytes_of(bytes(so_far[:2]))) is FirstBytes.UNDECIDED:
        try:
            data = sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        if not data:
            break
        so_far += data
    return shown


async def server_handshake(
    connection: Connection,
    context: GenerationContext,
    reactor: Reactor,
    *,
    port: int,
    limits: Limits,
    so_far: bytearray,
    wire_file: WireFile | None = None,
) -> tuple[TlsEngine, VerifiedPeer]:
    """Handshake with the opener within ``limits``; ``so_far`` was read before. ``wire_file`` gets all of its records.

    Raises PeerError, and EndedError if the queue of handshakes is full or the wait in it takes too long.
    """
    if wire_file is None:
        engine = TlsEngine(context, port=port)
    else:
        engine = RecordedTlsEngine(context, wire_file, lambda: connection.opener, port=port)
    connection.start_handshake(engine)
    sock = connection.opener
    async with _handshake(connection, sock, limits.handshake_timeout, reactor) as peer_timeout:
        shown = await first_bytes(sock, so_far, reactor.poller)
        if not so_far:
            raise ClosedEarlyError("the peer closed the connection before it sent a byte")
        if shown is FirstBytes.PLAINTEXT:
            _send_now(sock, alert_for(bytes(so_far[:3])))
            raise PlaintextError(
                f"wanted a TLS ClientHello, got plaintext that starts with {bytes(so_far[:16])!r};"
                " send it through a sidecar, or set mode PERMISSIVE"
            )
        engine.feed(bytes(so_far))
        connection.reach(Stage.QUEUED)
        # A peer that is a sidecar gives up after the same time.
        await peer_timeout.begin(limits.handshakes, QueueDeadline.of(limits.handshake_timeout))
        connection.reach(Stage.HANDSHAKE)
        peer = _step(engine, sock)
        while peer is None:
            await _exchange(engine, sock, peer_timeout, reactor.poller)
            peer = _step(engine, sock)
        await send_all(sock, engine.outgoing(), reactor.poller)
    return engine, peer


async def client_hello(
    connection: Connection,
    context: GenerationContext,
    reactor: Reactor,
    *,
    limits: Limits,
    deadline: QueueDeadline,
    session_key: str | None = None,
    wire_file: WireFile | None = None,
) -> TlsEngine:
    """A client's engine with its ClientHello, which is sent as soon as the socket is connected.

    ``session_key`` names the destination, for resumption. Raises EndedError if the queue of handshakes is full, or
    ``deadline`` passes in it.
    """
    await reactor.scheduler.begin(limits.handshakes, deadline)
    if wire_file is None:
        engine = TlsEngine(context, session_key=session_key)
    else:
        engine = RecordedTlsEngine(context, wire_file, lambda: connection.dialled, session_key=session_key)
    connection.start_handshake(engine)
    engine.handshake()
    return engine


async def client_handshake(
    connection: Connection, engine: Handshaking[P], sock: socket.socket, reactor: Reactor, *, timeout: float
) -> P:
    """Handshake as client within ``timeout`` seconds, and return what the other side has proven. Raises PeerError.

    Our last flight is left in the engine, to go with the application's first bytes.
    """
    peer = None
    async with _handshake(connection, sock, timeout, reactor) as peer_timeout:
        while peer is None:
            await _exchange(engine, sock, peer_timeout, reactor.poller)
            peer = _step(engine, sock)
    return peer


def tell_no_identity(connection: Connection) -> None:
    """Send internal_error in plaintext: without an SVID there is no handshake."""
    _send_now(connection.opener, INTERNAL_ERROR_ALERT)
    connection.alert_sent = alert_name(Alert.INTERNAL_ERROR)
    connection.part(connection.opener)


def refuse_after_handshake(connection: Connection, engine: TlsEngine) -> None:
    """Refuse after the handshake with a fatal alert: a close_notify would look like an empty but complete response."""
    engine.queue_fatal_alert()
    _send_now(connection.opener, engine.outgoing())
    connection.part(connection.opener)


def speaks_http2(engine: TlsEngine) -> bool:
    """Whether the handshake agreed on HTTP/2."""
    return engine.ssl_object.selected_alpn_protocol() in HTTP2


def tls_options(
    config: InboundConfig | OutboundConfig,
    alpn: tuple[str, ...] = (),
    *,
    insecure_keylog_file: Path | int | None = None,
) -> TlsOptions:
    """The TLS options of a listener's configuration."""
    group = _GROUPS[config.key_exchange]
    return TlsOptions(_VERSIONS[config.tls_min], alpn, config.resumption, group, insecure_keylog_file)


def connect_at_once(connection: Connection, address: Address) -> socket.socket | None:
    """Dial an app on loopback; None where that has to be waited for, or fails, by ``connect``."""
    began = connection.clock.monotonic()
    sock = dial_at_once(address)
    if sock is not None:
        connection.note_phase("connect", began)
        connection.dialled = sock
    return sock


async def connect(connection: Connection, address: Address, poller: Poller, timeout: float) -> socket.socket:
    """Dial within ``timeout`` seconds. Raises EndedError CONNECT_FAILED."""
    try:
        with connection.phase("connect"):
            connection.dialled = await dial(address, poller, timeout)
    except TimeoutError as error:
        raise EndedError(Outcome.CONNECT_FAILED, f"{address} did not answer within {timeout:g} s") from error
    except OSError as error:
        raise EndedError(Outcome.CONNECT_FAILED, f"{address} can't be reached: {os_reason(error)}") from error
    return connection.dialled


def drop_dialled(connection: Connection, poller: Poller) -> None:
    """Drop a connection to the app that is not used."""
    if connection.dialled is not None:
        abort(connection.dialled, poller)
        connection.dialled = None


async def _exchange(
    engine: Handshaking[object], sock: socket.socket, peer_timeout: PeerTimeout, poller: Poller
) -> None:
    """Send our flight, and wait for the peer's flight and then for a slot for our next step."""
    await send_all(sock, engine.outgoing(), poller)
    if data := await receive(sock, poller):
        engine.feed(data)
    else:
        engine.feed_eof()
    await peer_timeout.resume()


def _step(engine: Handshaking[P], sock: socket.socket) -> P | None:
    try:
        return engine.handshake()
    except PeerError:
        _send_now(sock, engine.refusal())
        raise


@contextlib.asynccontextmanager
async def _handshake(
    connection: Connection, sock: socket.socket, timeout: float, reactor: Reactor
) -> AsyncIterator[PeerTimeout]:
    """The phase, timed and bounded. Raises PeerError, and EndedError from the queue; a refused peer gets an alert."""
    connection.step(ConnectionStep.HANDSHAKE)
    finished = False
    try:
        with connection.phase("handshake"):
            async with PeerTimeout(timeout, reactor.scheduler) as peer_timeout:
                yield peer_timeout
        finished = True
    except TimeoutError as error:
        await reactor.scheduler.resume()  # handshakes of a burst time out together, and each alert costs a step
        if connection.engine is not None:
            connection.engine.queue_fatal_alert()
            _send_now(sock, connection.engine.outgoing())
            connection.part(sock)
        raise HandshakeTimeoutError(f"the peer did not finish the handshake within {timeout:g} s") from error
    except OSError as error:
        # A server that resets has failed its caller, while a client may only have probed the port.
        kind = ClosedEarlyError if sock is connection.opener and isinstance(error, ConnectionError) else HandshakeError
        raise kind(f"the connection broke in the middle of the handshake: {error}") from error
    except PeerError as error:
        connection.part(sock)
        if isinstance(error, NotAuthorizedError) and isinstance(error.peer, VerifiedPeer):
            connection.peer = error.peer
        raise
    finally:
        connection.end_handshake(finished=finished)


def _send_now(sock: socket.socket, alert: bytes) -> None:
    # Without waiting: the send buffer is nearly empty, and a peer that does not read must not delay its refusal.
    with contextlib.suppress(OSError):
        sock.send(alert)
