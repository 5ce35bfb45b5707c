"""The phases of an inbound connection, for each stream of one tunnel: register, authorize, connect, relay.

The tunnel's peer was verified once, but each stream is authorized for itself, and is refused if the peer would not be
verified any more. Whatever authority a stream names, it gets this listener's app or nothing.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.address import Address
from meshtls.errors import LocalIdentityError, MeshtlsError, PeerError
from meshtls.observe.events import Direction, Outcome
from meshtls.sidecar.connection import Connection, EndedError, TlsFacts, host_of
from meshtls.sidecar.custom import ask_providers
from meshtls.sidecar.ends import PlainEnd, TlsEnd
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.handshake import connect, connect_at_once, drop_dialled
from meshtls.sidecar.http.detect import HTTP, detect
from meshtls.sidecar.http.judge import ClientCertHeader
from meshtls.sidecar.http.opening import admit_client, dial_unless_http
from meshtls.sidecar.http.session import HttpDeps, HttpSession
from meshtls.sidecar.proxied import proxy_header_of
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import InboundConfig, Limits, Protocol
from meshtls.sidecar.sockets import address_of, hang_up
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.tunnel.origin import Handover
from meshtls.sidecar.tunnel.server import TunnelServer
from meshtls.sidecar.tunnel.session import OnEnd
from meshtls.sidecar.tunnel.stream_end import StreamEnd
from meshtls.svid.verifier import valid_until
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import TlsContexts
from meshtls.tls.engine import TlsEngine
from meshtls.wire.http1.start import HttpStart
from meshtls.wire.http2.frames import ErrorCode, ProtocolError
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.settings import TunnelBounds
from meshtls.wire.http2.streams import Stream
from meshtls.wire.origin import forwarded_by

__all__ = ["Admission", "AdmissionDeps"]

_FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _UNAVAILABLE = 403, 404, 405, 503


@dataclass(frozen=True, slots=True)
class AdmissionDeps:
    """What the tunnels into one inbound listener share."""

    config: InboundConfig
    limits: Limits
    contexts: TlsContexts
    gate: Gate
    runtime: Runtime
    http: HttpDeps
    #: Set if the app is one of the sidecar's own outbound listeners.
    handover: Handover | None


class _RefusedError(MeshtlsError):
    """Answer the stream with this status; ``why`` is for our own log."""

    def __init__(self, status: int, why: MeshtlsError) -> None:
        super().__init__(why.words)
        self.status = status
        self.why = why


class Admission:
    """Admits one tunnel's streams, which its ``server`` takes. ``dials`` runs the dials that have to wait."""

    def __init__(
        self,
        deps: AdmissionDeps,
        tunnel: Connection,
        engine: TlsEngine,
        peer: VerifiedPeer,
        dials: asyncio.TaskGroup,
        on_end: OnEnd,
    ) -> None:
        """``on_end`` is called when the tunnel is over."""
        limits, runtime = deps.limits, deps.runtime
        self.server = TunnelServer(
            self,
            TlsEnd(tunnel.opener, engine, "the tunnel's peer", runtime.reactor.buffers),
            TunnelBounds(limits.tunnel_streams, limits.tunnel_window),
            runtime.memory,
            runtime.reactor,
            idle_timeout=limits.idle_timeout,
            on_end=on_end,
        )
        self._deps = deps
        self._tunnel = tunnel
        #: The first authorized stream, or request, proves the tunnel. Raises EndedError.
        self._prove = partial(runtime.registry.prove, tunnel)
        self._peer = peer
        self._dials = dials
        self._dialling: dict[StreamEnd, asyncio.Task[None]] = {}
        self._sessions: dict[StreamEnd, HttpSession] = {}
        self._facts = TlsFacts.of(engine, peer)
        self._verified_under = engine.snapshot
        self._expires = valid_until(peer, engine.trust, tunnel.clock.now())
        self._port = deps.config.app.port
        self._client_cert = ClientCertHeader(deps.config, tunnel.request)
        self._names = _names(deps.config, address_of(tunnel.opener))

    def on_request(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        connection = self._connection(stream.number)
        connection.origin = request.origin
        end = self.server.new_stream_end(stream, partial(self._done, connection))
        registry = self._deps.runtime.registry
        crowded = registry.full
        registry.enter(connection, end.break_off)
        if crowded:
            self.server.refuse(end, _UNAVAILABLE, registry.too_many())
            return
        try:
            self._check(request, connection.started)
            protocol, rules = self._deps.config.protocol, self._deps.gate.rules
            asks = protocol is Protocol.TCP and rules is not None and rules.asks
            if protocol is not Protocol.AUTO and not asks:
                self._authorize(connection, reads_http=protocol is Protocol.HTTP)
        except _RefusedError as error:
            self.server.refuse(end, error.status, error.why)
            return
        except (PeerError, EndedError) as error:
            self._refuse(end, error)
            return
        if ended:
            end.deliver(b"", True)
        if asks:
            self._dialling[end] = self._dials.create_task(self._ask_first(connection, end))
        elif protocol is Protocol.TCP:
            self._connect(connection, end)
        else:
            self.server.accept(end)
            self._dialling[end] = self._dials.create_task(self._serve_http(connection, end))

    def on_refused(self, error: ProtocolError) -> None:
        """Report a stream that HTTP/2 refused: it exceeds a limit, or its request is malformed."""
        connection = self._connection()
        connection.peer = self._peer
        refusal = EndedError(Outcome.STREAM_REFUSED, f"{error.code.name}: {error}")
        self._deps.runtime.reporter.report(connection, refusal)

    def _connection(self, number: int = 0) -> Connection:
        """``number`` is the stream's; 0 for one that HTTP/2 has refused already."""
        tunnel = self._tunnel
        connection = Connection(
            tunnel.sidecar, tunnel.local_id, Direction.INBOUND, tunnel.opener, tunnel.remote, tunnel.clock
        )
        connection.facts = self._facts
        connection.is_stream, connection.stream_number = True, number
        self._deps.runtime.reporter.opened(connection)
        return connection

    # -- the verdict --

    def _check(self, request: ConnectRequest, now: datetime) -> None:
        """Check method and authority, and that the peer would still be verified. Raises _RefusedError."""
        if request.method != b"CONNECT":
            wanted = f"wanted CONNECT through a tunnel, got {_shown(request.method)}"
            raise _RefusedError(_NOT_ALLOWED, EndedError(Outcome.POLICY_DENIED, wanted))
        if request.authority not in self._names and request.authority.lower() not in self._names:
            raise _RefusedError(_NOT_FOUND, _unknown_authority(request.authority, self._names))
        self._check_current(now)

    def _check_current(self, now: datetime) -> None:
        """Drain the tunnel and verify the peer again if there is a newer snapshot or its chain has expired.

        A snapshot is newer with each change of trust and with each rotation of our own SVID.
        """
        try:
            context = self._deps.contexts.current()
            if context.snapshot is not self._verified_under or now > self._expires:
                self.server.drain()
                chain = [certificate.public_bytes(Encoding.DER) for certificate in self._peer.chain]
                context.check_peer(chain, self._port)
                self._verified_under, self._expires = context.snapshot, valid_until(self._peer, context.trust, now)
        except LocalIdentityError as error:
            self.server.drain()
            raise _RefusedError(_UNAVAILABLE, error) from error
        except PeerError as error:
            self.server.drain()
            raise _RefusedError(_FORBIDDEN, error) from error

    def _authorize(self, connection: Connection, *, reads_http: bool) -> None:
        """Register and authorize. Raises PeerError, and EndedError."""
        connection.reads_http = reads_http
        connection.admit_stream_of(self._tunnel)
        if not (reads_http and self._deps.gate.rules is not None):
            self._prove()

    async def _authorize_as(self, connection: Connection, start: HttpStart | None) -> None:
        """As ``_authorize``. The providers of CUSTOM policies are asked before about a stream that is not HTTP."""
        if start not in HTTP:
            deps = self._deps
            await ask_providers(connection, deps.gate, self._tunnel.request, deps.runtime.services)
        self._authorize(connection, reads_http=start in HTTP)

    async def _ask_first(self, connection: Connection, end: StreamEnd) -> None:
        """Ask the providers of CUSTOM policies, and then go on as ever."""
        try:
            await self._authorize_as(connection, None)
        except (PeerError, EndedError) as error:
            if not end.over:
                self._refuse(end, error)
            return
        if not end.over:
            self._connect(connection, end)

    def _refuse(self, end: StreamEnd, error: PeerError | EndedError) -> None:
        self.server.refuse(end, _FORBIDDEN if isinstance(error, PeerError) else _UNAVAILABLE, error)

    # -- HTTP on a stream --

    async def _serve_http(self, connection: Connection, end: StreamEnd) -> None:
        http = self._deps.http
        found: HttpStart | socket.socket | None = None
        try:
            if http.config.protocol is Protocol.HTTP:
                found = await detect(end, http.runtime.reactor, idle=http.limits.idle_timeout)
            else:
                start = await admit_client(http, connection, end, partial(self._authorize_as, connection))
                found = await dial_unless_http(http, connection, end, start, partial(self._dial, connection, end))
        except (PeerError, EndedError) as error:
            end.break_off(error)
        if isinstance(found, socket.socket):
            self._join(connection, end, found)
        elif found is not None:
            connection.step(ConnectionStep.RELAY)
            session = self._sessions[end] = HttpSession(
                http,
                connection,
                self._client_cert,
                end,
                found,
                prove=self._prove,
                on_end=end.closed,
                on_dialled=partial(self._hand_over, connection),
            )
            end.carry(session.relay)

    def _hand_over(self, connection: Connection, sock: socket.socket) -> None:
        if self._deps.handover is not None:
            forwarded = forwarded_by(connection.origin, host_of(self._tunnel.remote))
            tracer = self._deps.runtime.tracer
            if tracer is not None:
                forwarded = forwarded._replace(traceparent=tracer.of_connection(connection).traceparent.encode())
            self._deps.handover.put(sock.getsockname()[:2], forwarded)

    # -- the app --

    def _connect(self, connection: Connection, end: StreamEnd) -> None:
        sock = connect_at_once(connection, self._deps.config.app)
        if sock is not None:
            self._hand_over(connection, sock)
            self._join(connection, end, sock)
        else:
            self._dialling[end] = self._dials.create_task(self._connect_later(connection, end))

    async def _connect_later(self, connection: Connection, end: StreamEnd) -> None:
        sock = await self._dial(connection, end)
        if sock is not None:
            self._join(connection, end, sock)

    async def _dial(self, connection: Connection, end: StreamEnd) -> socket.socket | None:
        """None if the app can't be reached: the stream ends with that."""
        deps, poller = self._deps, self._deps.runtime.reactor.poller
        try:
            sock = await connect(connection, deps.config.app, poller, deps.limits.connect_timeout)
        except EndedError as error:
            if not end.over and end.stream.answered:
                end.break_off(error, ErrorCode.CONNECT_ERROR)
            elif not end.over:
                self.server.refuse(end, _UNAVAILABLE, error)
            return None
        if end.over:
            drop_dialled(connection, poller)
            return None
        self._hand_over(connection, sock)
        return sock

    def _join(self, connection: Connection, end: StreamEnd, sock: socket.socket) -> None:
        connection.step(ConnectionStep.RELAY)
        if not end.stream.answered:
            self.server.accept(end)
        app = PlainEnd(sock, "the app", self._deps.runtime.reactor.buffers)
        if self._deps.config.proxy_protocol:
            app.transmit(proxy_header_of(connection, connection.request, self._tunnel.opener))
        end.join(app, connection.flow, app_opened=False)

    def _done(self, connection: Connection, end: StreamEnd, error: Exception | None) -> None:
        session = self._sessions.pop(end, None)
        if session is not None:
            session.close()
        task = self._dialling.pop(end, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        if connection.dialled is not None:
            hang_up(connection.dialled, error, self.server.poller)
        self._deps.runtime.registry.leave(connection)
        self._deps.runtime.reporter.report(connection, error)


def _names(config: InboundConfig, local: Address) -> frozenset[bytes]:
    """The authorities that name this listener's app: the app's own address, ours, and HBONE's (our host, its port)."""
    known = (config.app, config.listen, local, Address(local.host, config.app.port), *config.destinations)
    return frozenset(str(address).lower().encode() for address in known)


def _unknown_authority(authority: bytes, names: frozenset[bytes]) -> EndedError:
    known = ", ".join(sorted(map(_shown, names)))
    return EndedError(
        Outcome.POLICY_DENIED,
        f"wanted CONNECT to one of {known}, got {_shown(authority)};"
        " if that is this app, add it to the inbound's destinations",
    )


def _shown(text: bytes) -> str:
    return text[:200].decode("ascii", "backslashreplace")
