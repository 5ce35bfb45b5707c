"""The HTTP of one connection, or of one stream of a tunnel: its filter, its judge, its relay and its app."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple

from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.ends import End, PlainEnd
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.handshake import connect, connect_at_once, drop_dialled
from meshtls.sidecar.http.judge import ClientCertHeader, RequestJudge
from meshtls.sidecar.http.relay import HttpRelay
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import HttpKeys, InboundConfig, Limits
from meshtls.wire.http import HttpFilter, HttpLimits, Judge, OnUnjudged
from meshtls.wire.http1.filter import Http1Filter
from meshtls.wire.http1.start import HttpStart
from meshtls.wire.http2.filter import Http2Filter

__all__ = ["HttpDeps", "HttpSession", "http_limits"]


class HttpDeps(NamedTuple):
    """What the sessions of one inbound listener share."""

    config: InboundConfig
    limits: Limits
    gate: Gate
    runtime: Runtime
    http_limits: HttpLimits

    @classmethod
    def of(cls, config: InboundConfig, limits: Limits, gate: Gate, runtime: Runtime) -> HttpDeps:
        return cls(config, limits, gate, runtime, http_limits(config.http))


class HttpSession:
    """``relay`` moves the bytes once it is started. ``close`` ends a dial and rulings that are under way."""

    def __init__(
        self,
        deps: HttpDeps,
        connection: Connection,
        client_cert: ClientCertHeader,
        client: End,
        start: HttpStart,
        *,
        prove: Callable[[], None],
        on_end: Callable[[Exception | None], None],
        on_dialled: Callable[[socket.socket], None] | None = None,
    ) -> None:
        """``connection`` is admitted. ``start`` is what the client's first bytes show. HTTP/2 has its filter, if the
        listener takes it. Everything else goes to HTTP/1's, which refuses what is not HTTP/1.

        ``prove`` is called for the first allowed request, ``on_dialled`` with the app's socket before it is used.
        """
        self._deps = deps
        self._connection = connection
        self._on_dialled = on_dialled
        self._dialling: asyncio.Task[None] | None = None
        http2 = start is HttpStart.HTTP2 and deps.config.http.http2
        self._judge = RequestJudge(
            client_cert,
            deps.gate,
            connection,
            deps.runtime,
            http2=http2,
            prove=prove,
            fail=self._fail,
            proxies=deps.config.num_trusted_proxies,
        )
        kind: Callable[[Judge, Callable[[], None], HttpLimits, OnUnjudged], HttpFilter]
        kind = Http2Filter if http2 else Http1Filter

        def make_filter(on_change: Callable[[], None]) -> HttpFilter:
            made = kind(self._judge, on_change, deps.http_limits, self._judge.unjudged)
            self._judge.app_fault = lambda: made.app_fault
            self._judge.unwritable = lambda: made.unwritable
            return made

        reactor = deps.runtime.reactor
        self.relay = HttpRelay(
            client,
            connection.flow,
            reactor.poller,
            make_filter,
            dial=self._dial,
            on_end=on_end,
            now=reactor.loop.time,
        )

    def close(self) -> None:
        """The session is over."""
        self._judge.close()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None

    def _fail(self, error: BaseException) -> None:
        self.relay.end(error if isinstance(error, Exception) else None)

    def _dial(self) -> None:
        sock = connect_at_once(self._connection, self._deps.config.app)
        if sock is not None:
            self._connected(sock)
        else:
            self._dialling = self._deps.runtime.reactor.loop.create_task(self._dial_later())

    async def _dial_later(self) -> None:
        deps = self._deps
        try:
            sock = await connect(
                self._connection, deps.config.app, deps.runtime.reactor.poller, deps.limits.connect_timeout
            )
        except EndedError as error:
            self._judge.unreachable = str(error)
            self.relay.unreachable()
        else:
            self._connected(sock)

    def _connected(self, sock: socket.socket) -> None:
        if self.relay.over:
            drop_dialled(self._connection, self._deps.runtime.reactor.poller)
            return
        if self._on_dialled is not None:
            self._on_dialled(sock)
        self.relay.connected(PlainEnd(sock, "the app", self._deps.runtime.reactor.buffers))


def http_limits(keys: HttpKeys) -> HttpLimits:
    """The filters' limits by a listener's keys."""
    return HttpLimits(
        header_bytes=keys.header_bytes,
        header_count=keys.header_count,
        uri_length=keys.uri_length,
        streams=keys.streams,
        underscore_names=keys.underscore_names,
        pass_trailers=keys.pass_trailers,
    )
