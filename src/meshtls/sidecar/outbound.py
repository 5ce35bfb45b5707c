"""Outbound: plaintext from the own app, mutual TLS to exactly one named identity. Connect, handshake, relay.

By a DestinationRule it may also be plaintext, or TLS to a server outside of the mesh.

The number of concurrent handshakes of one listener is bounded. In a burst the others wait here, where it costs
nothing, rather than in the queue of the far side, where their timeouts would run.
"""

from __future__ import annotations

import asyncio
from functools import partial

from meshtls.errors import ConfigError, HandshakeError, HandshakeTimeoutError, UntrustedPeerError
from meshtls.observe.events import Outcome
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection, Dialled, EndedError, TlsFacts
from meshtls.sidecar.ends import PlainEnd, TlsEnd
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.handshake import HTTP2, client_handshake, client_hello, connect, tls_options
from meshtls.sidecar.recorded_end import network_end
from meshtls.sidecar.recorded_engine import RecordedOriginatedTls
from meshtls.sidecar.relay import relay
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.scheduler import HandshakeScheduler, QueueDeadline, queue_full
from meshtls.sidecar.settings import Limits, OutboundConfig
from meshtls.sidecar.sockets import abort
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.tunnel.origin import Handover
from meshtls.sidecar.tunnel.pool import PoolDeps, TunnelPool
from meshtls.sidecar.warm import WarmPool
from meshtls.tls.context import TlsContexts
from meshtls.tls.origination import OriginatedTls, OriginationContexts
from meshtls.wire.origin import NOWHERE, Origin, forwarded_by, new_traceparent
from meshtls.wire.side import Side

__all__ = ["HandshakeSlots", "Outbound"]

#: More than the far side completes in 0.2 s, and more than this side does in a round trip.
_UNDER_WAY = 128


class Outbound:
    """The handler of one outbound listener. ``serve`` takes a connection through its phases.

    It raises the error with which the connection ended, if any."""

    def __init__(
        self,
        config: OutboundConfig,
        limits: Limits,
        runtime: Runtime,
        gate: Gate,
        *,
        baggage: bytes = b"",
        handover: Handover | None = None,
    ) -> None:
        """``baggage`` describes the workload to a tunnel's peers. A connection from an inbound listener of this sidecar
        takes its origin from ``handover``.
        """
        self.config = config
        #: The address of the end that speaks TLS, for all connections.
        self.remote = str(config.to)
        self._limits = limits
        self._gate = gate
        options = tls_options(config, insecure_keylog_file=runtime.keylog)
        self._wire_file = runtime.wire_file
        self._contexts = runtime.tls_contexts(gate, options, server_side=False)
        self._reactor = runtime.reactor
        self._partings = runtime.partings
        self._slots = HandshakeSlots(_UNDER_WAY, runtime.reactor.scheduler)
        self._baggage = baggage
        self._handover = handover
        self._tracer = runtime.tracer
        self._registry = runtime.registry
        self._reporter = runtime.reporter
        self.tunnels = self._pool(runtime) if config.tunnel else None
        self._origination = OriginationContexts(config.origination, options) if config.origination else None
        dial, warm = partial(self._dial, self._contexts), config.warm if config.proves_peer else 0
        self.warm = WarmPool(warm, self._contexts, dial, limits, runtime) if warm else None

    def start(self, connection: Connection) -> None:
        """Take the connection through its phases in a task of its own."""
        self._registry.start(connection, partial(self._reporter.run, phases=self.serve))

    def serve_without_task(self, connection: Connection) -> bool:
        """Carry the connection without a task, through an open tunnel. False if there is none with room."""
        if self.tunnels is None or not self.config.proves_peer:
            return False
        connection.expected_id = self.config.peer
        connection.origin = self._origin(connection)
        return self.tunnels.take(connection)

    def _origin(self, connection: Connection) -> Origin:
        try:
            host, port = connection.opener.getpeername()[:2]
        except OSError:
            return NOWHERE  # it has gone already
        said = NOWHERE if self._handover is None else self._handover.take((host, port))
        if self._tracer is None:
            traceparent = said.traceparent or new_traceparent()
        else:
            connection.trace = self._tracer.outbound(said.traceparent)
            traceparent = connection.trace.traceparent.encode()
        if said is NOWHERE:
            return Origin(traceparent, self._baggage, forwarded_by(NOWHERE, host).forwarded)
        return said._replace(traceparent=traceparent, baggage=said.baggage or self._baggage)

    def close(self, error: EndedError) -> None:
        """End the tunnels, and all streams on them."""
        if self.tunnels is not None:
            self.tunnels.close(error)

    @property
    def has_tunnels(self) -> bool:
        """Whether a tunnel is open or being dialled."""
        return self.tunnels is not None and not self.tunnels.empty

    def drain(self) -> None:
        """Open no new streams on the present tunnels; each ends with its last stream."""
        if self.tunnels is not None:
            self.tunnels.drain()

    async def serve(self, connection: Connection) -> None:
        connection.expected_id = self.config.peer
        if self.config.plaintext:
            await self._relay_plaintext(connection)
        elif self._origination is not None:
            await self._relay_originated(connection, self._origination)
        elif self.tunnels is None or not await self.tunnels.carry(connection):
            await self._relay(connection, self._warm(connection) or await self._dial(self._contexts, connection))

    def _warm(self, connection: Connection) -> Dialled | None:
        """A connection that was made ahead; it is admitted like a new one. None where there is none."""
        taken = None if self.warm is None else self.warm.take()
        if taken is not None:
            connection.dialled, connection.engine, peer = taken
            connection.admit(self._gate, Request(peer, connection.local_id), taken.engine.trust)
        return taken

    async def _dial(self, contexts: TlsContexts, connection: Connection) -> Dialled:
        try:
            return await self._dial_once(contexts, connection)
        except HandshakeTimeoutError:
            raise
        except (HandshakeError, UntrustedPeerError):
            if connection.engine is None or not connection.engine.offered_session:
                raise
            connection.engine.forget_session()
        # Dial again, without the session: no byte of the app's has been sent.
        partings, connection.partings = connection.partings, ()
        for parting in partings:
            self._partings.add(parting)  # not at the connection's end, which may be hours away
        if connection.dialled is not None and connection.dialled not in [sock for sock, _ in partings]:
            abort(connection.dialled, self._reactor.poller)
        connection.dialled = None
        return await self._dial_once(contexts, connection)

    async def _dial_once(self, contexts: TlsContexts, connection: Connection) -> Dialled:
        limits, reactor = self._limits, self._reactor
        # As long as connecting and the handshake may take.
        deadline = QueueDeadline.of(limits.connect_timeout + limits.handshake_timeout)
        await self._slots.take(limits.handshakes, deadline)
        try:
            session_key = str(self.config.to)
            engine = await client_hello(
                connection,
                contexts.current(),
                reactor,
                limits=limits,
                deadline=deadline,
                session_key=session_key,
                wire_file=self._wire_file,
            )
            sock = await connect(connection, self.config.to, reactor.poller, limits.connect_timeout)
            peer = await client_handshake(connection, engine, sock, reactor, timeout=limits.handshake_timeout)
        finally:
            self._slots.release()
        connection.admit(self._gate, Request(peer, connection.local_id), engine.trust)
        return Dialled(sock, engine, peer)

    async def _relay(self, connection: Connection, dialled: Dialled) -> None:
        sock, engine, _ = dialled
        connection.step(ConnectionStep.RELAY)
        replay = connection.take_replay()
        app = PlainEnd(connection.opener, "the app", self._reactor.buffers, replay, waited=not replay)
        far = TlsEnd(sock, engine, "the peer", self._reactor.buffers)
        await relay(app, far, connection.flow, self._limits.idle_timeout, self._reactor)

    async def _relay_plaintext(self, connection: Connection) -> None:
        """A DestinationRule says DISABLE."""
        connection.admit(self._gate, Request(None, connection.local_id))
        buffers, limits = self._reactor.buffers, self._limits
        sock = await connect(connection, self.config.to, self._reactor.poller, limits.connect_timeout)
        connection.step(ConnectionStep.RELAY)
        app = PlainEnd(connection.opener, "the app", buffers)
        far = network_end(sock, "the peer", buffers, ours=Side.CLIENT, file=self._wire_file)
        await relay(app, far, connection.flow, limits.idle_timeout, self._reactor)

    async def _relay_originated(self, connection: Connection, contexts: OriginationContexts) -> None:
        """A DestinationRule says SIMPLE or MUTUAL."""
        limits, reactor = self._limits, self._reactor
        deadline = QueueDeadline.of(limits.connect_timeout + limits.handshake_timeout)
        await self._slots.take(limits.handshakes, deadline)
        try:
            await reactor.scheduler.begin(limits.handshakes, deadline)
            try:
                engine = self._originated(connection, contexts)
            except ConfigError as error:
                raise EndedError(Outcome.CONNECT_FAILED, f"TLS to {self.config.to}: {error}") from error
            engine.handshake()
            sock = await connect(connection, self.config.to, reactor.poller, limits.connect_timeout)
            await client_handshake(connection, engine, sock, reactor, timeout=limits.handshake_timeout)
        finally:
            self._slots.release()
        connection.facts = TlsFacts(engine.tls_version, engine.cipher_suite)
        connection.admit(self._gate, Request(None, connection.local_id))
        connection.step(ConnectionStep.RELAY)
        app = PlainEnd(connection.opener, "the app", reactor.buffers)
        far = TlsEnd(sock, engine, "the server", reactor.buffers)
        await relay(app, far, connection.flow, limits.idle_timeout, reactor)

    def _originated(self, connection: Connection, contexts: OriginationContexts) -> OriginatedTls:
        if self._wire_file is None:
            return OriginatedTls(contexts)
        return RecordedOriginatedTls(contexts, self._wire_file, lambda: connection.dialled)

    def _pool(self, runtime: Runtime) -> TunnelPool:
        contexts = self._contexts.with_alpn(HTTP2)
        dial = partial(self._dial, contexts)
        return TunnelPool(PoolDeps(self.config, self._limits, contexts, runtime, dial, self._relay, self.start))


class HandshakeSlots:
    """``size`` slots for handshakes under way; the others wait in the order of their arrival."""

    def __init__(self, size: int, scheduler: HandshakeScheduler) -> None:
        self._size = size
        self._scheduler = scheduler
        self._free = asyncio.Semaphore(size)
        self._waiting = 0

    async def take(self, limit: int, deadline: QueueDeadline) -> None:
        """Raises EndedError if no slot is free before ``deadline``, and at once if ``limit`` others wait already."""
        if not self._free.locked():
            await self._free.acquire()  # without a wait
            return
        if self._waiting >= limit:
            raise queue_full(limit)
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline.until):
                await self._free.acquire()
        except TimeoutError:
            await self._scheduler.resume()  # connections of a burst time out together
            raise deadline.exhausted() from None
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Give the slot to the next in the queue."""
        self._free.release()

    def __repr__(self) -> str:
        return f"<HandshakeSlots [{self._size}, {self._waiting} waiting]>"
