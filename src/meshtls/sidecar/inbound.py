"""Inbound: mutual TLS from a peer, plaintext to the app. Detect, handshake, register and authorize, connect, relay.

No byte reaches the app, and the app is not even dialled, before the peer is verified and allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from meshtls.errors import LocalIdentityError, PeerError
from meshtls.observe.events import Outcome
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection, EndedError, host_of
from meshtls.sidecar.ends import End, PlainEnd, TlsEnd
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.handshake import (
    HTTP2,
    connect,
    first_bytes,
    first_bytes_now,
    refuse_after_handshake,
    server_handshake,
    speaks_http2,
    tell_no_identity,
    tls_options,
)
from meshtls.sidecar.relay import relay
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import InboundConfig, Limits, Mode
from meshtls.sidecar.sockets import abort, either_readable
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.tunnel.admission import AdmissionDeps
from meshtls.sidecar.tunnel.origin import Handover
from meshtls.sidecar.tunnel.tunnels import Tunnels
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext
from meshtls.tls.engine import TlsEngine
from meshtls.tls.unproven import Stage
from meshtls.wire.tls import FirstBytes

__all__ = ["Inbound"]


class Inbound:
    """The handler of one inbound listener. ``serve`` takes a connection through its phases.

    It raises the error with which the connection ended, if any."""

    def __init__(
        self,
        config: InboundConfig,
        limits: Limits,
        runtime: Runtime,
        gate: Gate,
        *,
        handover: Handover | None = None,
    ) -> None:
        self.config = config
        self._limits = limits
        self._registry = runtime.registry
        self._reactor = runtime.reactor
        self._gate = gate
        options = tls_options(config, HTTP2 if config.tunnel else ())
        self._contexts = runtime.tls_contexts(gate, options, server_side=True)
        self.tunnels = Tunnels(AdmissionDeps(config, limits, self._contexts, gate, runtime, handover))

    def serve_without_task(self, connection: Connection) -> bool:
        """Always False: an inbound connection needs a task."""
        return False

    async def serve(self, connection: Connection) -> None:
        so_far, reactor, limits = bytearray(), self._reactor, self._limits
        if await self._speaks_tls(connection, so_far):
            context = self._context(connection)
            engine, peer = await server_handshake(
                connection, context, reactor, port=self.config.app.port, limits=limits, so_far=so_far
            )
            try:
                connection.admit(self._gate, self._request(connection, peer, engine.sni), engine.trust)
                if not speaks_http2(engine):  # a tunnel is proven by its first stream
                    self._registry.prove(connection)
            except (PeerError, EndedError):
                refuse_after_handshake(connection, engine)
                raise
            if speaks_http2(engine):
                await self._serve_tunnel(connection, engine, peer)
                return
            opener: End = TlsEnd(connection.opener, engine, "the peer", reactor.buffers)
        else:
            connection.admit(self._gate, self._request(connection, None, None))
            self._registry.prove(connection)
            opener = PlainEnd(connection.opener, "the client", reactor.buffers, bytes(so_far))
        sock = connection.dialled or await self._connect(connection)
        app = PlainEnd(sock, "the app", reactor.buffers)
        connection.step(ConnectionStep.RELAY)
        await relay(opener, app, connection.flow, limits.idle_timeout, reactor)

    async def _connect(self, connection: Connection) -> socket.socket:
        return await connect(connection, self.config.app, self._reactor.poller, self._limits.connect_timeout)

    async def _speaks_tls(self, connection: Connection, so_far: bytearray) -> bool:
        if self.config.mode is Mode.STRICT:
            return True
        connection.step(ConnectionStep.DETECT)
        if self.config.mode is Mode.PERMISSIVE:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.detect_timeout):
                    return await first_bytes(connection.opener, so_far, self._reactor.poller) is FirstBytes.TLS
        # If the app speaks first, its client is silent until then: dial the app to find out.
        app = await self._connect(connection)
        return await self._first_to_speak(connection.opener, app, so_far) is FirstBytes.TLS

    async def _first_to_speak(self, client: socket.socket, app: socket.socket, so_far: bytearray) -> FirstBytes:
        """Wait until one of the two sends bytes, or ends. As long as the app has sent nothing, the client's first bytes
        are examined: a ClientHello may be late. If the app sends first, the connection is plaintext.
        """
        judged, limits = self.config.mode is Mode.PERMISSIVE, self._limits
        try:
            async with asyncio.timeout(limits.idle_timeout) as deadline:
                while True:
                    if judged and (wire := first_bytes_now(client, so_far)) is not None:
                        return wire
                    if _has_spoken(app) or (not judged and _has_spoken(client)):
                        return FirstBytes.PLAINTEXT
                    if so_far:  # a record's first byte: a TLS client sends the rest of the record at once
                        deadline.reschedule(asyncio.get_running_loop().time() + limits.handshake_timeout)
                    await either_readable(client, app, self._reactor.poller)
        except TimeoutError as error:
            if not so_far:
                raise EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {limits.idle_timeout:g} s") from error
            return FirstBytes.PLAINTEXT

    def _context(self, connection: Connection) -> GenerationContext:
        try:
            return self._contexts.current()
        except LocalIdentityError:
            tell_no_identity(connection)
            raise

    def _request(self, connection: Connection, peer: VerifiedPeer | None, sni: str | None) -> Request:
        return Request(peer, connection.local_id, self.config.app.port, host_of(connection.remote), sni)

    async def _serve_tunnel(self, connection: Connection, engine: TlsEngine, peer: VerifiedPeer) -> None:
        if connection.dialled is not None:
            abort(connection.dialled, self._reactor.poller)  # dialled before we knew that the client speaks TLS
            connection.dialled = None
        connection.reach(Stage.SESSION)
        connection.step(ConnectionStep.RELAY)
        await self.tunnels.serve(connection, engine, peer)


def _has_spoken(sock: socket.socket) -> bool:
    """Whether it has sent bytes, ended or broken; the relay then handles each."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        pass
    return True
