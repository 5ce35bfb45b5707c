"""The tunnels of one route: which of them takes a new connection of the app, and when another is dialled.

A route's pool has one source ID, one destination ID and one address. Each tunnel also belongs to the generation under
which it was made. A newer generation drains it: it takes no new stream and ends with its last.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial

from meshtls.errors import LocalIdentityError, MeshtlsError
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import Connection, Dialled, EndedError, TlsFacts
from meshtls.sidecar.ends import PlainEnd, TlsEnd
from meshtls.sidecar.handshake import speaks_http2
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import Limits, OutboundConfig
from meshtls.sidecar.sockets import abort, close, hang_up, peer_of
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.tunnel.client import TunnelClient
from meshtls.sidecar.tunnel.stream_end import OnDone, StreamEnd, StreamRefusedError
from meshtls.svid.context import X509Context
from meshtls.svid.verifier import valid_until
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import TlsContexts
from meshtls.wire.http2.settings import OPENED_STREAMS, TunnelBounds

__all__ = ["PoolDeps", "PoolState", "TunnelPool"]

_RELAY = ConnectionStep.RELAY
#: Seconds for which HTTP/2 is not offered again to a peer that did not choose it.
_PLAIN_SECONDS = 60.0
#: Most streams that are opened for one connection if peers refuse them.
_MOST_TRIES = 4


@dataclass(frozen=True, slots=True)
class PoolDeps:
    """What a pool needs of its outbound listener.

    ``dial`` makes a TLS connection that offers HTTP/2, and ``relay`` carries an app's connection over one that is not
    for tunnels. ``start`` gives a connection a task that takes it through all of the listener's phases.
    """

    config: OutboundConfig
    limits: Limits
    contexts: TlsContexts
    runtime: Runtime
    dial: Callable[[Connection], Awaitable[Dialled]]
    relay: Callable[[Connection, Dialled], Awaitable[None]]
    start: Callable[[Connection], None]


@dataclass(eq=False, slots=True)
class _Tunnel:
    """A pooled tunnel and what its streams share."""

    client: TunnelClient
    peer: VerifiedPeer
    facts: TlsFacts
    snapshot: X509Context
    expires: datetime
    failure: Exception | None = None


class PoolState(Enum):
    """What the next connection finds.

    - EMPTY: there is no tunnel, and it dials one.
    - DIALLING: it waits for the tunnel that another connection dials.
    - OPEN: a tunnel has room for a stream.
    - FULL: no tunnel has room, and it dials another.
    - PLAIN: the peer did not choose HTTP/2, which is not offered to it for a while.
    """

    EMPTY = "empty"
    DIALLING = "dialling"
    OPEN = "open"
    FULL = "full"
    PLAIN = "plain"


class TunnelPool:
    """The tunnels to one destination. ``take`` carries a connection without a task if a tunnel has room; ``carry``
    waits for one, or dials one.
    """

    def __init__(self, deps: PoolDeps) -> None:
        self._deps = deps
        self._tunnels: list[_Tunnel] = []
        self._dialling: asyncio.Future[MeshtlsError | None] | None = None
        self._plain_until = float("-inf")
        #: The streams that the peer allowed on its latest tunnel; assumed of a new one until its SETTINGS arrive.
        self._allowed_streams = OPENED_STREAMS

    def __len__(self) -> int:
        """Its tunnels, those that are draining included."""
        return len(self._tunnels)

    def take(self, connection: Connection) -> bool:
        """Carry the connection through an open tunnel; False if none has room."""
        try:
            tunnel = self._with_room(connection.started)
        except LocalIdentityError:
            return False  # ``carry`` raises it again, and it is reported
        if tunnel is None:
            return False
        end = self._open(tunnel, connection, partial(self._done, tunnel, connection))
        self._deps.runtime.registry.enter(connection, end.break_off)
        self._join(end, connection)
        return True

    async def carry(self, connection: Connection) -> bool:
        """Carry the connection to its end; False if the peer takes no tunnels. Raises the error that ended it."""
        while True:
            try:
                return await self._carry_once(connection)
            except StreamRefusedError as error:
                _count_refusal(connection, error)

    async def _carry_once(self, connection: Connection) -> bool:
        while True:
            tunnel = self._with_room(self._deps.runtime.clock.now())
            if tunnel is not None:
                await self._carry_on(tunnel, connection)
                return True
            if self._is_plain():
                return False
            if self._dialling is None:
                return await self._dial(connection)
            failure = await asyncio.shield(self._dialling)
            if failure is not None:
                raise failure

    @property
    def state(self) -> PoolState:
        if any(tunnel.client.can_open for tunnel in self._tunnels):
            return PoolState.OPEN
        if self._is_plain():
            return PoolState.PLAIN
        if self._dialling is not None:
            return PoolState.DIALLING
        return PoolState.FULL if self._tunnels else PoolState.EMPTY

    @property
    def empty(self) -> bool:
        """No tunnel is open or being dialled."""
        return not self._tunnels and self._dialling is None

    def drain(self) -> None:
        """Let every tunnel end with its last stream."""
        for tunnel in list(self._tunnels):
            tunnel.client.drain()

    def close(self, error: EndedError) -> None:
        """End every tunnel now, and its streams with this error."""
        for tunnel in list(self._tunnels):
            tunnel.client.break_off(error)

    def _with_room(self, now: datetime) -> _Tunnel | None:
        snapshot = self._deps.contexts.current().snapshot
        for tunnel in self._tunnels[::-1]:
            if tunnel.snapshot is not snapshot or tunnel.expires < now:
                tunnel.client.drain()
            elif tunnel.client.can_open:
                return tunnel
            elif tunnel.client.empty:  # full without a stream: none allowed, or no number left
                tunnel.client.drain()
        return None

    def _is_plain(self) -> bool:
        return self._deps.runtime.clock.monotonic() < self._plain_until

    # -- one connection on a tunnel --

    def _open(self, tunnel: _Tunnel, connection: Connection, on_done: OnDone) -> StreamEnd:
        # Not authorized again: the tunnel's peer was when it was dialled, and a new ``peer`` closes the pool.
        connection.peer, connection.facts, connection.is_stream = tunnel.peer, tunnel.facts, True
        connection.step(_RELAY)
        end = tunnel.client.open(on_done, connection.origin)
        connection.stream_number = end.stream.number
        return end

    def _join(self, end: StreamEnd, connection: Connection) -> None:
        replay = connection.take_replay()
        app = PlainEnd(connection.opener, "the app", self._deps.runtime.reactor.buffers, replay, waited=not replay)
        end.join(app, connection.flow, app_opened=True)

    def _done(self, tunnel: _Tunnel, connection: Connection, end: StreamEnd, error: Exception | None) -> None:
        if isinstance(error, StreamRefusedError):
            try:
                _count_refusal(connection, error)
            except EndedError as final:
                error = final
            else:
                connection.break_off = None
                self._deps.start(connection)
                return
        hang_up(connection.opener, error, tunnel.client.poller)
        self._deps.runtime.registry.leave(connection)
        self._deps.runtime.reporter.report(connection, error)

    async def _carry_on(self, tunnel: _Tunnel, connection: Connection) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def on_done(end: StreamEnd, error: Exception | None) -> None:
            if not done.done():
                done.set_result(error)

        stream = self._open(tunnel, connection, on_done)
        self._join(stream, connection)
        try:
            error = await done
        except asyncio.CancelledError:
            stream.break_off(connection.ended_by or EndedError(Outcome.DRAINED, "the sidecar is stopping"))
            raise
        if error is not None:
            raise error

    # -- a new tunnel --

    async def _dial(self, connection: Connection) -> bool:
        """Dial for this connection, while others wait for the result; it then opens the first stream."""
        dialling = self._dialling = asyncio.get_running_loop().create_future()
        failure: MeshtlsError | None = None
        try:
            dialled = await self._deps.dial(connection)
        except MeshtlsError as error:
            failure = error
            raise
        else:
            tunnel = self._tunnel(connection, dialled) if speaks_http2(dialled.engine) else None
            if tunnel is None:
                self._plain_until = self._deps.runtime.clock.monotonic() + _PLAIN_SECONDS
        finally:
            self._dialling = None
            dialling.set_result(failure)
        if tunnel is None:
            await self._deps.relay(connection, dialled)
        elif not tunnel.client.can_open:
            raise tunnel.failure or EndedError(Outcome.HANDSHAKE_FAILED, "the peer takes no streams on a new tunnel")
        else:
            await self._carry_on(tunnel, connection)
        return True

    def _tunnel(self, connection: Connection, dialled: Dialled) -> _Tunnel:
        sock, engine, peer = dialled
        limits = self._deps.limits
        expires = valid_until(peer, engine.trust, self._deps.runtime.clock.now())
        connection.dialled = None  # from here on the socket is the tunnel's
        # CONNECT names the configured destination, or the address at which we reached the peer.
        authority = str(self._deps.config.destination or peer_of(sock)).encode()
        client = TunnelClient(
            TlsEnd(sock, engine, "the tunnel's peer", self._deps.runtime.reactor.buffers),
            TunnelBounds(limits.tunnel_streams, limits.tunnel_window),
            self._deps.runtime.memory,
            self._deps.runtime.reactor,
            authority,
            expected_streams=min(
                (one.client.allowed_streams for one in self._tunnels if one.client.allowed_streams),
                default=self._allowed_streams,
            ),
            idle_timeout=limits.idle_timeout,
            answer_timeout=limits.connect_timeout + limits.handshake_timeout,
            on_end=lambda error: self._ended(tunnel, sock, error),
        )
        tunnel = _Tunnel(client, peer, TlsFacts.of(engine, peer), engine.snapshot, expires)
        self._tunnels.append(tunnel)
        client.start()
        return tunnel

    def _ended(self, tunnel: _Tunnel, sock: socket.socket, error: Exception | None) -> None:
        self._tunnels.remove(tunnel)
        self._allowed_streams = tunnel.client.allowed_streams or 1
        tunnel.failure = error
        if isinstance(error, EndedError) and error.parting is not None:
            self._deps.runtime.partings.add(error.parting)
        elif error is None:
            close(sock, self._deps.runtime.reactor.poller)
        else:
            abort(sock, self._deps.runtime.reactor.poller)

    def __repr__(self) -> str:
        config, streams = self._deps.config, [tunnel.client for tunnel in self._tunnels]
        return f"<TunnelPool {config.peer} {config.to} [{self.state.value}] {streams}>"


def _count_refusal(connection: Connection, error: StreamRefusedError) -> None:
    """Count the refusal and keep the app's bytes to resend. Raises EndedError after the last attempt."""
    connection.refusals += 1
    connection.replay = error.replay
    if connection.refusals >= _MOST_TRIES:
        raise EndedError(error.outcome, f"{error}, the last of {connection.refusals} tunnels that were tried")
    connection.is_stream, connection.facts = False, None  # the next try may be without a tunnel
    connection.step(ConnectionStep.RETRY)
