"""``listen`` and ``dial``: asyncio streams over mutual TLS (names as in go-spiffe's spiffetls)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from meshtls.clock import Clock, SystemClock
from meshtls.errors import HandshakeTimeoutError, LocalIdentityError, MeshtlsError, PeerError, RequestError
from meshtls.logs import logger
from meshtls.policy.authorizer import Authorizer
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509ContextSource
from meshtls.svid.verifier import CurrentVerifier
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import TlsContexts, TlsOptions
from meshtls.tls.engine import TlsEngine
from meshtls.tls.handshakes import Handshake, observed
from meshtls.tls.live import LiveConnections
from meshtls.tls.protocol import LINGER, TlsProtocol
from meshtls.tls.states import StreamState
from meshtls.tls.transport import TlsTransport
from meshtls.tls.unproven import Stage, Unproven, source_of

__all__ = ["Handler", "Listener", "dial", "listen", "peer_id"]

log = logger("meshtls.tls")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def dial(
    host: str,
    port: int,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    timeout: float = 10.0,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a server that ``authorizer`` allows, presenting the source's newest SVID.

    The server's verdict about us is not known yet on return (TLS 1.3 ends the client's handshake first): where it
    refuses, the first read raises HandshakeError. ``timeout`` is in seconds and covers connecting and the handshake.

    If the source's trust changes so that the peer is refused, the connection ends: reads and writes raise a PeerError.
    Raises PeerError, LocalIdentityError or OSError.
    """
    verifier = CurrentVerifier()
    contexts = TlsContexts(source, authorizer, server_side=False, options=options, clock=clock, verifier=verifier)
    context = contexts.current()
    reader, application = _stream()
    protocol = TlsProtocol(lambda tcp: TlsEngine(context, port=port), application)
    try:
        with observed(Handshake(True, host, port)) as handshake:
            async with asyncio.timeout(timeout) as limit:
                transport = await _connected(host, port, protocol)
            handshake.peer = _peer_of(transport)
    except TimeoutError as error:
        raise HandshakeTimeoutError(f"{host}:{port}: no finished handshake within {timeout} s") from error
    except PeerError:
        await protocol.linger(_left(limit))  # outside the timeout, which would replace the verdict by TimeoutError
        raise
    LiveConnections(source, verifier).add(protocol)
    return reader, _writer(transport, reader, application)


async def listen(
    host: str,
    port: int,
    source: X509ContextSource,
    authorizer: Authorizer,
    handler: Handler,
    *,
    timeout: float = 10.0,
    unproven: int = 1024,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> Listener:
    """Serve ``handler(reader, writer)`` to clients that ``authorizer`` allows; each is closed when its handler returns.

    ``port`` 0 takes a free one (see ``Listener.address``). ``timeout`` is in seconds, for one handshake.

    At most ``unproven`` connections are open whose peer is not verified and authorized yet; at the limit, the oldest of
    the source that has the most of them gives way to a new one. A refused client gets an alert, and the reason goes to
    the log ``meshtls.tls``. Raises OSError where the address can't be bound.
    """
    verifier = CurrentVerifier()
    contexts = TlsContexts(source, authorizer, server_side=True, options=options, clock=clock, verifier=verifier)
    listener = Listener(contexts, handler, timeout, unproven, LiveConnections(source, verifier))
    await listener.start(host, port)
    return listener


def peer_id(writer: asyncio.StreamWriter) -> SpiffeId:
    """The peer's verified SPIFFE ID, for a stream of ``listen``, ``dial`` or any asyncio use of our contexts.

    Raises RequestError for any other stream.
    """
    peer = _peer_of(writer)
    if peer is None:
        raise RequestError("peer_id: wanted a stream over a meshtls context, got one without a verified peer")
    return peer


def _peer_of(stream: asyncio.StreamWriter | asyncio.BaseTransport) -> SpiffeId | None:
    peer = getattr(stream.get_extra_info("ssl_object"), "peer", None)
    return peer.spiffe_id if isinstance(peer, VerifiedPeer) else None


class Listener:
    """A running server. ``async with`` closes it, with its connections, at the end."""

    def __init__(
        self, contexts: TlsContexts, handler: Handler, timeout: float, unproven: int, live: LiveConnections
    ) -> None:
        self._contexts = contexts
        self._handler = handler
        self._timeout = timeout
        self._unproven: Unproven[TlsProtocol] = Unproven(unproven)
        self._live = live
        self._shed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._closed = False

    async def start(self, host: str, port: int) -> None:
        with _names_resolve(host):
            self._server = await asyncio.get_running_loop().create_server(self._accept, host, port)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first listening socket."""
        if self._server is None or not self._server.sockets:
            raise RequestError("address: this listener is not listening")
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop listening, cancel the handlers that still run, and wait for them. Handshakes under way are cut off."""
        self._closed = True
        if self._server is not None:
            await _accept_no_more(self._server)
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        side = f"{self.address[0]}:{self.address[1]}" if self._server and self._server.sockets else "closed"
        return f"<Listener {side} [{len(self._tasks)} connections]>"

    def _accept(self) -> TlsProtocol:
        reader, application = _stream()
        protocol = TlsProtocol(
            lambda tcp: self._engine(protocol, tcp),
            application,
            lambda: self._unproven.reach(protocol, Stage.HANDSHAKE),
        )
        if self._closed:
            protocol.abort()  # asyncio had accepted it before
            return protocol
        task = asyncio.create_task(self._serve(protocol, reader, application))
        self._tasks.add(task)
        task.add_done_callback(partial(self._served, protocol))
        return protocol

    def _served(self, protocol: TlsProtocol, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._unproven.leave(protocol)
        if protocol.state in (StreamState.CONNECTING, StreamState.HANDSHAKING, StreamState.REFUSED):
            protocol.abort()  # also where the task was cancelled before its first step

    def _engine(self, protocol: TlsProtocol, tcp: asyncio.Transport) -> TlsEngine:
        host = (tcp.get_extra_info("peername") or ("",))[0]
        oldest = self._unproven.enter(protocol, source_of(host))
        if oldest is not None:
            if self._shed % self._unproven.limit == 0:  # log the first, and then each further ``limit`` of them
                message = "unproven connections at their limit (%d): the oldest give way; %d have so far"
                log.warning(message, self._unproven.limit, self._shed)
            self._shed += 1
            oldest.abort()
        return TlsEngine(self._contexts.current(), port=tcp.get_extra_info("sockname")[1])

    async def _serve(
        self, protocol: TlsProtocol, reader: asyncio.StreamReader, application: asyncio.StreamReaderProtocol
    ) -> None:
        transport = await self._accepted(protocol)
        if transport is None:
            return
        self._unproven.leave(protocol)
        self._live.add(protocol)
        writer = _writer(transport, reader, application)
        try:
            await self._handler(reader, writer)
        except PeerError as error:
            log.warning("connection with %s: %s", peer_id(writer), error)
        except Exception:
            log.exception("handler of %s failed", peer_id(writer))
        finally:
            writer.close()
            if protocol.state is StreamState.PARTING:
                await protocol.linger()

    async def _accepted(self, protocol: TlsProtocol) -> TlsTransport | None:
        try:
            with observed(Handshake(False)) as handshake:
                try:
                    async with asyncio.timeout(self._timeout):
                        transport = await asyncio.shield(protocol.ready)
                finally:
                    handshake.host, handshake.port = protocol.remote
                handshake.peer = _peer_of(transport)
                return transport
        except asyncio.CancelledError:
            protocol.abort()
            raise
        except TimeoutError:
            if protocol.state is StreamState.OPEN:
                return protocol.ready.result()  # in the last moment
            log.warning("refused: the peer did not finish its handshake within %s s", self._timeout)
            if protocol.state is StreamState.HANDSHAKING:
                protocol.give_up()
            await protocol.linger()
        except LocalIdentityError:
            pass  # it was cut off, and the log has said why no connection can be accepted
        except MeshtlsError as error:
            log.warning("refused: %s", error)
            await protocol.linger()
        return None


async def _accept_no_more(server: asyncio.Server) -> None:
    """Stop accepting, and let each connection that asyncio has accepted get its transport.

    It accepts in one turn of its loop and makes the transport in the next: if the server is closed in between, the
    connection stays open until the garbage collector runs.
    """
    for sock in server.sockets:
        asyncio.get_running_loop().remove_reader(sock.fileno())
    await asyncio.sleep(0)


def _stream() -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    return reader, asyncio.StreamReaderProtocol(reader, loop=loop)


def _writer(
    transport: TlsTransport, reader: asyncio.StreamReader, application: asyncio.StreamReaderProtocol
) -> asyncio.StreamWriter:
    return asyncio.StreamWriter(transport, application, reader, asyncio.get_running_loop())


def _left(limit: asyncio.Timeout) -> float:
    """Seconds until it ends, at most LINGER."""
    end = limit.when()
    return LINGER if end is None else min(LINGER, max(0.0, end - asyncio.get_running_loop().time()))


@contextlib.contextmanager
def _names_resolve(host: str) -> Iterator[None]:
    """Raises OSError also for a host that no resolver takes, such as ``a..b``, of which asyncio raises UnicodeError."""
    try:
        yield
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is no host name: {error}") from error


async def _connected(host: str, port: int, protocol: TlsProtocol) -> TlsTransport:
    with _names_resolve(host):
        await asyncio.get_running_loop().create_connection(lambda: protocol, host, port)
    try:
        return await asyncio.shield(protocol.ready)
    except asyncio.CancelledError:
        protocol.abort()
        raise
