"""Finds out whether a client begins HTTP: before it is authorized, and again while the app may speak first.

For a connection and for a stream of a tunnel alike. HTTP is authorized by each of its requests, anything else as TCP.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from meshtls.errors import NotAuthorizedError
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.ends import End
from meshtls.sidecar.handshake import drop_dialled
from meshtls.sidecar.http.detect import HTTP, detect
from meshtls.sidecar.http.session import HttpDeps
from meshtls.sidecar.settings import Protocol
from meshtls.wire.http1.start import HttpStart

__all__ = ["admit_client", "dial_unless_http"]

App = TypeVar("App", bound=socket.socket | None)


async def admit_client(
    deps: HttpDeps, connection: Connection, client: End, authorize: Callable[[HttpStart | None], Awaitable[None]]
) -> HttpStart | None:
    """Authorize the client as what it begins, and return that. None where no HTTP is looked for, and UNDECIDED where
    the first bytes are still to come.

    A silent client is TCP whose app may speak first. Where that is denied, it may still begin HTTP. Raises what
    ``authorize`` and ``detect`` raise.
    """
    protocol, reactor, idle = deps.config.protocol, deps.runtime.reactor, deps.limits.idle_timeout
    if protocol is not Protocol.AUTO:
        start = None if protocol is Protocol.TCP else HttpStart.UNDECIDED
        await authorize(start)
        return start
    with connection.phase("detect"):
        start = await detect(client, reactor, idle=idle, silent=deps.limits.detect_timeout)
    try:
        await authorize(start)
    except NotAuthorizedError:
        if start is not HttpStart.UNDECIDED or client.ended or deps.gate.rules is None:
            raise
        connection.reads_http = True  # a change of policy meanwhile must not end it as TCP
        start = await detect(client, reactor, idle=idle)
        if start not in HTTP:
            raise
        await authorize(start)
    return start


async def dial_unless_http(
    deps: HttpDeps,
    connection: Connection,
    client: End,
    start: HttpStart | None,
    dial: Callable[[], Awaitable[App]],
) -> HttpStart | App:
    """The HTTP that an admitted client has begun, also while it and the app were silent, or else the app's socket. None
    if ``dial`` returns None: the connection is over. Raises what ``dial`` and ``detect`` raise.
    """
    reactor = deps.runtime.reactor
    if start is None or not connection.reads_http:
        app = await dial()
        if app is None or start is not HttpStart.UNDECIDED:
            return app
        start = await detect(client, reactor, idle=deps.limits.idle_timeout, app=app)
        if start not in HTTP:
            return app
        connection.reads_http = True
    drop_dialled(connection, reactor.poller)  # made before it was known what the client speaks
    return start
