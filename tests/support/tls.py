"""Two engines joined in memory, and contexts in one line, for tests of TLS."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass

from meshtls.clock import Clock, SystemClock
from meshtls.errors import PeerError
from meshtls.policy.authorizer import Authorizer, authorize_any
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.context import GenerationContext, TlsContexts, TlsOptions
from meshtls.tls.engine import TlsEngine

__all__ = ["Ends", "SlowClient", "context_of", "engine_of", "shake"]


@dataclass(slots=True)
class Ends:
    """How a handshake ended for each side: None where it completed."""

    client: PeerError | None = None
    server: PeerError | None = None


def context_of(
    snapshot: X509Context,
    *,
    server_side: bool,
    authorizer: Authorizer | None = None,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> GenerationContext:
    """A context with this snapshot; it allows every verified peer unless an authorizer is given."""
    contexts = TlsContexts(
        ConstantSource(snapshot),
        authorizer or authorize_any(),
        server_side=server_side,
        options=options,
        clock=clock,
    )
    return contexts.current()


def engine_of(
    snapshot: X509Context,
    *,
    server_side: bool,
    authorizer: Authorizer | None = None,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> TlsEngine:
    """A new engine over ``context_of``."""
    return TlsEngine(context_of(snapshot, server_side=server_side, authorizer=authorizer, options=options, clock=clock))


def shake(client: TlsEngine, server: TlsEngine) -> Ends:
    """Carry bytes both ways until neither side sends; then each side reads once, for a late alert."""
    ends = Ends()
    for _ in range(8):
        ends.client = ends.client or _step(client)
        server.feed(client.outgoing())
        ends.server = ends.server or _step(server)
        client.feed(server.outgoing())
    return ends


class SlowClient:
    """A plain OpenSSL client that sends only its ClientHello."""

    def __init__(self, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = maximum
        self._incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.hello = outgoing.read()

    def alert_in(self, received: bytes) -> str:
        """OpenSSL's name of the alert at the end of the server's bytes, or its message if there is none."""
        self._incoming.write(received)
        self._incoming.write_eof()
        try:
            self._tls.do_handshake()
            self._tls.read()
        except ssl.SSLError as error:
            return str(error.reason)
        return "no error"


def _step(side: TlsEngine) -> PeerError | None:
    try:
        if side.handshake() is not None:
            side.read()
    except PeerError as error:
        return error
    return None
