"""Inbound: mutual TLS from a peer, plaintext to the app. Detect, handshake, register and authorize, connect, relay.

No byte reaches the app before the peer is verified and allowed. It is dialled earlier in one case: the client of a
PERMISSIVE or DISABLE port is silent, and its plaintext would be allowed, so the app may speak first. Where HTTP is
read, the app is dialled at the first allowed request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from meshtls.errors import ClosedEarlyError, LocalIdentityError, PeerError
from meshtls.observe.events import Outcome
from meshtls.policy.istio.match import Networks
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection, EndedError, host_of
from meshtls.sidecar.custom import ask_providers
from meshtls.sidecar.ends import End, PlainEnd, TlsEnd
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.handshake import (
    HTTP1,
    HTTP2,
    connect,
    drop_dialled,
    first_bytes,
    first_bytes_now,
    refuse_after_handshake,
    server_handshake,
    speaks_http2,
    tell_no_identity,
    tls_options,
)
from meshtls.sidecar.http.detect import HTTP, detect
from meshtls.sidecar.http.judge import ClientCertHeader
from meshtls.sidecar.http.opening import admit_client, dial_unless_http
from meshtls.sidecar.http.session import HttpDeps, HttpSession
from meshtls.sidecar.proxied import proxy_header_of, take_proxy_header
from meshtls.sidecar.recorded_end import network_end
from meshtls.sidecar.relay import relay, run_to_end, set_done
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, Protocol
from meshtls.sidecar.sockets import address_of, either_readable, peer_of, receive
from meshtls.sidecar.states import ConnectionStep
from meshtls.sidecar.tunnel.admission import AdmissionDeps
from meshtls.sidecar.tunnel.origin import Handover
from meshtls.sidecar.tunnel.tunnels import Tunnels
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext
from meshtls.tls.engine import TlsEngine
from meshtls.tls.unproven import Stage
from meshtls.wire.client_hello import client_hello_of
from meshtls.wire.http1.start import HttpStart
from meshtls.wire.side import Side
from meshtls.wire.tls import FirstBytes
from meshtls.wire.xff import UNKNOWN

__all__ = ["Inbound"]


class _Opening(NamedTuple):
    """What a client's first bytes show: the mesh's TLS or not. ``foreign``: TLS that is not the mesh's, to ``sni``."""

    tls: bool
    sni: str | None = None
    foreign: bool = False


_TLS, _PLAINTEXT = _Opening(True), _Opening(False)


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
        options = tls_options(config, _alpn(config), insecure_keylog_file=runtime.keylog)
        self._wire_file = runtime.wire_file
        self._contexts = runtime.tls_contexts(gate, options, server_side=True)
        self._services = runtime.services
        self._proxies = Networks(map(str, config.proxy_protocol_from)) if config.proxy_protocol_from else None
        self._http = HttpDeps.of(config, limits, gate, runtime)
        self.tunnels = Tunnels(AdmissionDeps(config, limits, self._contexts, gate, runtime, self._http, handover))

    async def serve(self, connection: Connection) -> None:
        so_far, reactor = bytearray(), self._reactor
        if self._proxies is not None:
            timeout = self._limits.handshake_timeout
            await take_proxy_header(connection, so_far, self._proxies, reactor.poller, timeout)
        try:
            opening = await _OPENINGS[self.config.mode](self, connection, so_far)
        except OSError as error:
            raise ClosedEarlyError(f"the connection broke before the peer showed what it speaks: {error}") from error
        if not opening.tls:
            request = self._request(connection, None, opening.sni)
            ours, file = Side.SERVER, self._wire_file
            client: End = network_end(
                connection.opener, "the client", reactor.buffers, bytes(so_far), ours=ours, file=file
            )
            start = None
            if opening.foreign:
                await self._authorize(connection, request, None, None)
            else:
                start = await admit_client(
                    self._http, connection, client, partial(self._authorize, connection, request, None)
                )
            await self._serve_app(connection, request, client, start)
            return
        context = self._context(connection)
        engine, peer = await server_handshake(
            connection,
            context,
            reactor,
            port=self.config.app.port,
            limits=self._limits,
            so_far=so_far,
            wire_file=self._wire_file,
        )
        request = self._request(connection, peer, engine.sni)
        tunnel = self.config.tunnel and speaks_http2(engine)
        try:
            if tunnel:
                self._authorize_tunnel(connection, request, engine.trust)
            else:
                client = TlsEnd(connection.opener, engine, "the peer", reactor.buffers)
                start = await admit_client(
                    self._http, connection, client, partial(self._authorize, connection, request, engine.trust)
                )
        except (PeerError, EndedError):
            refuse_after_handshake(connection, engine)
            raise
        if tunnel:
            await self._serve_tunnel(connection, engine, peer)
        else:
            await self._serve_app(connection, request, client, start)

    def _authorize_tunnel(self, connection: Connection, request: Request, trust: Trust) -> None:
        """Register and authorize. Each stream is judged by itself, and the first that is allowed proves the tunnel."""
        connection.reads_http = self.config.protocol is not Protocol.TCP
        connection.is_tunnel, connection.allowed_by = True, None
        connection.admit(self._gate, request, trust)

    async def _authorize(
        self, connection: Connection, request: Request, trust: Trust | None, start: HttpStart | None
    ) -> None:
        """Register and authorize. Where each request is judged by itself, the first that is allowed proves the
        connection.
        """
        connection.reads_http = start in HTTP or (
            start is HttpStart.UNDECIDED and self.config.protocol is Protocol.HTTP
        )
        if not connection.reads_http:
            await ask_providers(connection, self._gate, request, self._services)
        connection.admit(self._gate, request, trust)
        if not (connection.reads_http and self._gate.rules is not None):
            self._registry.prove(connection)

    async def _serve_app(self, connection: Connection, request: Request, client: End, start: HttpStart | None) -> None:
        found = await dial_unless_http(self._http, connection, client, start, partial(self._dialled, connection))
        if isinstance(found, HttpStart):
            await self._serve_http(connection, request, client, found)
            return
        app = PlainEnd(found, "the app", self._reactor.buffers)
        if self.config.proxy_protocol:
            app.transmit(proxy_header_of(connection, request, connection.opener))
        connection.step(ConnectionStep.RELAY)
        await relay(client, app, connection.flow, self._limits.idle_timeout, self._reactor)

    async def _serve_http(self, connection: Connection, request: Request, client: End, start: HttpStart) -> None:
        reactor, idle_timeout = self._reactor, self._limits.idle_timeout
        connection.step(ConnectionStep.RELAY)
        if start is HttpStart.UNDECIDED:
            start = await detect(client, reactor, idle=idle_timeout)
        done: asyncio.Future[None] = reactor.loop.create_future()
        session = HttpSession(
            self._http,
            connection,
            ClientCertHeader(self.config, request),
            client,
            start,
            prove=partial(self._registry.prove, connection),
            on_end=partial(set_done, done),
        )
        try:
            await run_to_end(session.relay, done, idle_timeout, reactor)
        finally:
            session.close()
        if not client.ended:  # a reset over what it still sends would overtake the last answer
            connection.part(connection.opener)

    async def _dialled(self, connection: Connection) -> socket.socket:
        """The app's socket, which may have been dialled to find out what the client speaks."""
        return connection.dialled or await self._connect(connection)

    async def _connect(self, connection: Connection) -> socket.socket:
        return await connect(connection, self.config.app, self._reactor.poller, self._limits.connect_timeout)

    async def _opening_strict(self, connection: Connection, so_far: bytearray) -> _Opening:
        return _TLS

    async def _opening_permissive(self, connection: Connection, so_far: bytearray) -> _Opening:
        """What the client's first bytes, which are read into ``so_far``, show."""
        connection.step(ConnectionStep.DETECT)
        limits = self._limits
        http = self.config.protocol is Protocol.HTTP  # whose clients speak first
        with connection.phase("detect"):
            shown = await self._opening_within(
                connection, so_far, limits.idle_timeout if http else limits.detect_timeout
            )
        if shown is not None:
            if not so_far and not self._plaintext_is_allowed(connection):
                await self._raise_if_probe(connection, so_far)
            return shown
        if http or self.config.proxy_protocol:
            return _PLAINTEXT
        rules = self._gate.rules
        asks = rules is not None and rules.asks  # then before the app is dialled, and an app that speaks first waits
        if asks or not self._plaintext_is_allowed(connection):
            return await self._opening_within(connection, so_far, limits.handshake_timeout) or _PLAINTEXT
        if await self._first_to_speak(connection, so_far) is FirstBytes.TLS:
            return await self._whose_tls(connection, so_far)
        return _PLAINTEXT

    async def _opening_disabled(self, connection: Connection, so_far: bytearray) -> _Opening:
        """Plaintext, whatever it begins with. ``so_far`` came with a load balancer's header."""
        connection.step(ConnectionStep.DETECT)
        if self.config.protocol is Protocol.HTTP or so_far:
            return _PLAINTEXT
        if not self._plaintext_is_allowed(connection):
            await self._raise_if_probe(connection, so_far)
        elif not self.config.proxy_protocol:
            await self._first_to_speak(connection, so_far)
        return _PLAINTEXT

    def _plaintext_is_allowed(self, connection: Connection) -> bool:
        return self._gate.judge(self._request(connection, None, None)).allowed

    async def _raise_if_probe(self, connection: Connection, so_far: bytearray) -> None:
        """Raise ClosedEarlyError if a client whose plaintext would be denied ends without a byte.

        It was denied nothing: it is a probe of the port, as load balancers send them.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.detect_timeout):
                await first_bytes(connection.opener, so_far, self._reactor.poller)
                if not so_far:
                    raise ClosedEarlyError("the peer closed the connection before it sent a byte")

    async def _opening_within(self, connection: Connection, so_far: bytearray, timeout: float) -> _Opening | None:
        """None if the client says nothing for ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                if await first_bytes(connection.opener, so_far, self._reactor.poller) is not FirstBytes.TLS:
                    return _PLAINTEXT
                return await self._whose_tls(connection, so_far)
        return None

    async def _whose_tls(self, connection: Connection, so_far: bytearray) -> _Opening:
        """Whose TLS it is: with policies, TLS that is not the mesh's passes through. See ``wire/client_hello.py``."""
        if self._gate.rules is None:
            return _TLS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.handshake_timeout):
                while (hello := client_hello_of(bytes(so_far))) is None:
                    data = await receive(connection.opener, self._reactor.poller)
                    if not data:
                        return _TLS
                    so_far += data
                return _TLS if hello.is_of_mesh else _Opening(False, hello.sni, foreign=True)
        return _TLS

    async def _first_to_speak(self, connection: Connection, so_far: bytearray) -> FirstBytes:
        """Dial the app for a silent client: the app may speak first. Wait until one of the two sends bytes, or ends.

        As long as the app has sent nothing, a PERMISSIVE client's first bytes are examined: a ClientHello may be late.
        If the app sends first, the connection is plaintext.
        """
        client, app = connection.opener, await self._connect(connection)
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
        # What only policies ask for costs a system call.
        ours = address_of(connection.opener).host if self._gate.rules is not None else None
        source_ip, remote_ip = host_of(connection.remote), None
        if self._proxies is not None:
            source_ip, remote_ip = host_of(peer_of(connection.opener)), source_ip
        if self.config.num_trusted_proxies:
            remote_ip = UNKNOWN  # each request says it
        return Request(
            peer,
            connection.local_id,
            self.config.app.port,
            source_ip,
            sni,
            remote_ip=remote_ip,
            destination_ip=ours,
        )

    async def _serve_tunnel(self, connection: Connection, engine: TlsEngine, peer: VerifiedPeer) -> None:
        drop_dialled(connection, self._reactor.poller)
        connection.reach(Stage.SESSION)
        connection.step(ConnectionStep.RELAY)
        await self.tunnels.serve(connection, engine, peer)


#: How each mode finds out what a client opens with.
_OPENINGS: dict[Mode, Callable[[Inbound, Connection, bytearray], Awaitable[_Opening]]] = {
    Mode.STRICT: Inbound._opening_strict,
    Mode.PERMISSIVE: Inbound._opening_permissive,
    Mode.DISABLE: Inbound._opening_disabled,
}


def _alpn(config: InboundConfig) -> tuple[str, ...]:
    """HTTP/2 is a tunnel's, or else the app's where HTTP is read."""
    if config.tunnel:
        return HTTP2
    if config.protocol is Protocol.TCP:
        return ()
    return (*HTTP2, *HTTP1) if config.http.http2 else HTTP1


def _has_spoken(sock: socket.socket) -> bool:
    """Whether it has sent bytes, ended or broken; the relay then handles each."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        pass
    return True
