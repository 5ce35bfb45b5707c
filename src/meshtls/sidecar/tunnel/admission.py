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
from meshtls.sidecar.ends import PlainEnd
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import InboundConfig, Limits
from meshtls.sidecar.sockets import abort, address_of, dial, dial_at_once, hang_up
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.tunnel.origin import Handover
from meshtls.sidecar.tunnel.server import TunnelServer
from meshtls.sidecar.tunnel.stream_end import StreamEnd
from meshtls.svid.verifier import valid_until
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import TlsContexts
from meshtls.tls.engine import TlsEngine
from meshtls.wire.http2.frames import ProtocolError
from meshtls.wire.http2.headers import ConnectRequest
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
    #: Set if the app is one of the sidecar's own outbound listeners.
    handover: Handover | None


class _RefusedError(MeshtlsError):
    """Answer the stream with this status; ``why`` is for our own log."""

    def __init__(self, status: int, why: MeshtlsError) -> None:
        super().__init__(str(why))
        self.status = status
        self.why = why


class Admission:
    """Admits one tunnel's streams. ``on_request`` answers each CONNECT; ``dials`` runs the dials that have to wait."""

    def __init__(
        self, route: AdmissionDeps, tunnel: Connection, engine: TlsEngine, peer: VerifiedPeer, dials: asyncio.TaskGroup
    ) -> None:
        self.server: TunnelServer
        self._route = route
        self._tunnel = tunnel
        self._engine = engine
        self._peer = peer
        self._dials = dials
        self._dialling: dict[StreamEnd, asyncio.Task[None]] = {}
        self._facts = TlsFacts.of(engine, peer)
        self._verified_under = engine.snapshot
        self._expires = valid_until(peer, engine.trust, tunnel.clock.now())
        self._port = route.config.app.port
        self._names = _names(route.config, address_of(tunnel.opener))

    def on_request(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        connection = self._connection()
        connection.origin = request.origin
        end = self.server.new_stream_end(stream, partial(self._done, connection))
        registry = self._route.runtime.registry
        crowded = registry.full
        registry.enter(connection, end.break_off)
        if crowded:
            self.server.refuse(end, _UNAVAILABLE, registry.too_many())
            return
        try:
            self._check(request, connection.started)
            self._authorize(connection)
        except _RefusedError as error:
            self.server.refuse(end, error.status, error.why)
            return
        if ended:
            end.deliver(b"", True)
        self._connect(connection, end)

    def on_refused(self, error: ProtocolError) -> None:
        """Report a stream that HTTP/2 refused: it exceeds a limit, or its request is malformed."""
        connection = self._connection()
        connection.peer = self._peer
        refusal = EndedError(Outcome.STREAM_REFUSED, f"{error.code.name}: {error}")
        self._route.runtime.reporter.report(connection, refusal)

    def _connection(self) -> Connection:
        tunnel = self._tunnel
        connection = Connection(
            tunnel.sidecar, tunnel.local_id, Direction.INBOUND, tunnel.opener, tunnel.remote, tunnel.clock
        )
        connection.facts = self._facts
        connection.is_stream = True
        self._route.runtime.reporter.opened(connection)
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
            context = self._route.contexts.current()
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

    def _authorize(self, connection: Connection) -> None:
        try:
            connection.admit_stream_of(self._tunnel)
            self._route.runtime.registry.prove(self._tunnel)  # a tunnel is proven by its first authorized stream
        except PeerError as error:
            raise _RefusedError(_FORBIDDEN, error) from error
        except EndedError as error:
            raise _RefusedError(_UNAVAILABLE, error) from error

    # -- the app --

    def _connect(self, connection: Connection, end: StreamEnd) -> None:
        began = connection.clock.monotonic()
        sock = dial_at_once(self._route.config.app)
        if sock is not None:
            connection.timed("connect", began)
            self._join(connection, end, sock)
        else:
            self._dialling[end] = self._dials.create_task(self._connect_later(connection, end))

    def _join(self, connection: Connection, end: StreamEnd, sock: socket.socket) -> None:
        if self._route.handover is not None:
            forwarded = forwarded_by(connection.origin, host_of(self._tunnel.remote))
            self._route.handover.put(sock.getsockname()[:2], forwarded)
        connection.dialled = sock
        connection.step(ConnectionStep.RELAY)
        self.server.accept(end)
        app = PlainEnd(sock, "the app", self._route.runtime.reactor.buffers)
        end.join(app, connection.flow, app_opened=False)

    async def _connect_later(self, connection: Connection, end: StreamEnd) -> None:
        app, timeout = self._route.config.app, self._route.limits.connect_timeout
        poller = self._route.runtime.reactor.poller
        try:
            with connection.phase("connect"):
                sock = await dial(app, poller, timeout)
        except TimeoutError:
            self._unreachable(end, f"{app} did not answer within {timeout:g} s")
        except OSError as error:
            self._unreachable(end, f"{app} can't be reached: {error}")
        else:
            if end.over:
                abort(sock, poller)
                return
            self._join(connection, end, sock)

    def _unreachable(self, end: StreamEnd, detail: str) -> None:
        if not end.over:
            self.server.refuse(end, _UNAVAILABLE, EndedError(Outcome.CONNECT_FAILED, detail))

    def _done(self, connection: Connection, end: StreamEnd, error: Exception | None) -> None:
        task = self._dialling.pop(end, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        if connection.dialled is not None:
            hang_up(connection.dialled, error, self.server.poller)
        self._route.runtime.registry.leave(connection)
        self._route.runtime.reporter.report(connection, error)


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
