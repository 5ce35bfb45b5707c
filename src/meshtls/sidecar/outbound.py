"""Outbound: plaintext from the own app, mutual TLS to exactly one named identity. Connect, handshake, relay."""

from __future__ import annotations

from meshtls.clock import Clock
from meshtls.policy.authorizer import Target, authorize_id
from meshtls.sidecar.config import Limits, OutboundConfig
from meshtls.sidecar.connect import connect
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.ends import PlainEnd, TlsEnd
from meshtls.sidecar.handshake import dial_tls, tls_options
from meshtls.sidecar.relay import relay
from meshtls.svid.context import X509ContextSource
from meshtls.tls.context import TlsContexts

__all__ = ["Outbound"]


class Outbound:
    """One outbound door. ``serve`` takes a connection through its phases and raises how it ended, if not well."""

    def __init__(self, config: OutboundConfig, limits: Limits, source: X509ContextSource, clock: Clock) -> None:
        self.config = config
        self._limits = limits
        self._authorize = authorize_id(config.peer)
        self._contexts = TlsContexts(
            source, self._authorize, server_side=False, options=tls_options(config.tls_min), clock=clock
        )

    async def serve(self, connection: Connection) -> None:
        context = self._contexts.current()
        sock = await connect(connection, self.config.to, self._limits.connect_timeout)
        engine, peer = await dial_tls(connection, context, sock, timeout=self._limits.handshake_timeout)
        connection.admit(peer, self._authorize, Target(connection.local_id))
        app, far = PlainEnd(connection.opener, "the app"), TlsEnd(sock, engine, "the peer")
        await relay(app, far, connection.flow, self._limits.idle_timeout)
