"""The phases before the relay: the first bytes, and a handshake whose refusal the peer gets to hear."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from meshtls.errors import (
    HandshakeError,
    HandshakeTimeoutError,
    NotAuthorizedError,
    PeerError,
    PlaintextError,
)
from meshtls.sidecar.config import TlsMinimum
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.detect import Wire, wire_of
from meshtls.sidecar.sockets import CHUNK, readable
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext, TlsOptions
from meshtls.tls.engine import TlsEngine

__all__ = [
    "accept_tls",
    "dial_tls",
    "first_bytes",
    "refuse_late",
    "tell_no_identity",
    "tls_options",
]

# alert(21), legacy version 3.3, two bytes: fatal(2), internal_error(80) (RFC 8446, sections 5.1 and 6).
_INTERNAL_ERROR_ALERT = bytes((21, 3, 3, 0, 2, 2, 80))
_VERSIONS = {TlsMinimum.V1_2: ssl.TLSVersion.TLSv1_2, TlsMinimum.V1_3: ssl.TLSVersion.TLSv1_3}


async def first_bytes(sock: socket.socket, so_far: bytearray) -> Wire:
    """Read into ``so_far`` until it shows what the peer speaks, or the peer ends. Cancelled, it loses no byte."""
    while (wire := wire_of(bytes(so_far[:3]))) is Wire.UNDECIDED:
        await readable(sock)
        with contextlib.suppress(BlockingIOError, InterruptedError):
            data = sock.recv(CHUNK)
            if not data:
                break
            so_far += data
    return wire


async def accept_tls(
    connection: Connection, context: GenerationContext, *, port: int, timeout: float, so_far: bytearray
) -> tuple[TlsEngine, VerifiedPeer]:
    """Handshake with the opener within ``timeout`` seconds; ``so_far`` was read before. Raises PeerError."""
    engine = connection.engine = TlsEngine(context, port=port)
    async with _explained(connection, connection.opener, timeout):
        if await first_bytes(connection.opener, so_far) is Wire.PLAINTEXT:
            raise PlaintextError(
                f"wanted a TLS ClientHello, got plaintext that starts with {bytes(so_far[:16])!r};"
                " send it through a sidecar, or set mode PERMISSIVE"
            )
        engine.feed(bytes(so_far))
        return engine, await _finish(engine, connection.opener)


async def dial_tls(
    connection: Connection, context: GenerationContext, sock: socket.socket, *, timeout: float
) -> tuple[TlsEngine, VerifiedPeer]:
    """Handshake as client within ``timeout`` seconds. Raises PeerError."""
    engine = connection.engine = TlsEngine(context)
    async with _explained(connection, sock, timeout):
        return engine, await _finish(engine, sock)


def tell_no_identity(connection: Connection) -> None:
    """Send the alert that needs no keys, for where there is no certificate to shake hands with."""
    _send_now(connection.opener, _INTERNAL_ERROR_ALERT)
    connection.lingering = connection.opener


def refuse_late(connection: Connection, engine: TlsEngine) -> None:
    """Tell a peer whose handshake is done already that it is refused: close_notify, for the time of alerts is over."""
    with contextlib.suppress(PeerError):
        engine.close_write()
    _send_now(connection.opener, engine.outgoing())
    connection.lingering = connection.opener


def tls_options(minimum: TlsMinimum) -> TlsOptions:
    return TlsOptions(_VERSIONS[minimum])


async def _finish(engine: TlsEngine, sock: socket.socket) -> VerifiedPeer:
    loop = asyncio.get_running_loop()
    while True:
        try:
            peer = engine.handshake()
        except PeerError:
            _send_now(sock, engine.outgoing())
            raise
        await loop.sock_sendall(sock, engine.outgoing())
        if peer is not None:
            return peer
        if data := await loop.sock_recv(sock, CHUNK):
            engine.feed(data)
        else:
            engine.feed_eof()


@contextlib.asynccontextmanager
async def _explained(connection: Connection, sock: socket.socket, timeout: float) -> AsyncIterator[None]:
    """Time and bound the phase, and leave only PeerErrors and the ending of others."""
    try:
        with connection.phase("handshake"):
            async with asyncio.timeout(timeout):
                yield
    except TimeoutError as error:
        raise HandshakeTimeoutError(f"the peer did not finish the handshake within {timeout:g} s") from error
    except OSError as error:
        raise HandshakeError(f"the connection broke in the middle of the handshake: {error}") from error
    except PeerError as error:
        connection.lingering = sock
        if isinstance(error, NotAuthorizedError) and isinstance(error.peer, VerifiedPeer):
            connection.peer = error.peer
        raise


def _send_now(sock: socket.socket, alert: bytes) -> None:
    # A handshake leaves the send buffer near empty, and a peer that does not read must not hold up its own refusal.
    with contextlib.suppress(OSError):
        sock.send(alert)
