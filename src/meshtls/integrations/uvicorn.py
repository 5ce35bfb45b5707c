"""uvicorn over mutual TLS: every request's scope has the verified peer that sent it (see ``asgi.peer_of``).

``context`` is a ``server_context``, so identities rotate while the server runs. A context can't be sent to workers or
to a reloader, so ``peer_config`` is for one process. Several processes need names that each can import:

uvicorn.run("app:app", workers=4, http="meshtls.integrations.uvicorn:PeerProtocol", ssl_context_factory=make_context)

where ``make_context(config, default)``, a function of a module, gives a ``server_context`` over
``blocking(X509Source()).enter()``. Requires uvicorn 0.47 or newer, which accepts a ready-made context.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from meshtls.errors import ConfigError, RequestError
from meshtls.integrations.asgi import CONNECTION, PEER, Connection
from meshtls.integrations.peers import verified_peer
from meshtls.logs import logger
from meshtls.tls.rotating import RotatingContext

__all__ = ["PeerProtocol", "SidecarProtocol", "peer_config", "peer_protocol"]

log = logger("meshtls.tls")


def peer_config(
    app: Any, context: RotatingContext, *, http: type[asyncio.Protocol] = AutoHTTPProtocol, **settings: Any
) -> uvicorn.Config:
    """The configuration for ``uvicorn.Server``; ``settings`` are those of ``uvicorn.Config``.

    ``http`` is one of uvicorn's protocol classes. Raises ConfigError for settings that would bypass ``context``.
    """
    wrong = [name for name in settings if name.startswith("ssl_") or name in ("reload", "workers", "uds")]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)}: wanted none of these; TLS is the context's, in one process, over TCP;"
            " for workers see PeerProtocol"
        )
    return uvicorn.Config(
        app, http=peer_protocol(http), ssl_context_factory=lambda config, default: context, **settings
    )


def peer_protocol(base: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """A subclass of ``base``, one of uvicorn's protocol classes, that puts the peer into the scopes of its connection.

    uvicorn copies ``app_state`` into the scope of each request and WebSocket. A connection without a verified peer is
    aborted before its first request.
    """
    return cast(type[asyncio.Protocol], type("PeerProtocol", (_KnowsPeer, base), {}))


class _KnowsPeer(asyncio.Protocol):
    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast("asyncio.Transport", transport)  # a TCP server's transport; uvloop's is no subclass of asyncio's
        try:
            self.app_state = {**self.app_state, PEER: verified_peer(tcp), CONNECTION: _connection(tcp)}
        except RequestError as error:
            log.warning("refused: %s", error)
            tcp.abort()
        super().connection_made(transport)


class _KnowsAddresses(asyncio.Protocol):
    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state = {**self.app_state, CONNECTION: _connection(cast("asyncio.Transport", transport))}
        super().connection_made(transport)


def _connection(tcp: asyncio.Transport) -> Connection:
    client, server = tcp.get_extra_info("peername"), tcp.get_extra_info("sockname")
    tls = tcp.get_extra_info("ssl_object")
    return Connection(
        source_ip=client[0] if isinstance(client, tuple) else None,
        destination_ip=server[0] if isinstance(server, tuple) else None,
        port=server[1] if isinstance(server, tuple) else None,
        local_id=getattr(tls, "local_id", None),
        sni=getattr(tls, "sni", None),
    )


#: For an app that a sidecar calls in plaintext: ``uvicorn.run(http="meshtls.integrations.uvicorn:SidecarProtocol")``.
#: It tells ``PolicyMiddleware`` the addresses of the connection, whatever X-Forwarded-For says.
SidecarProtocol = cast(type[asyncio.Protocol], type("SidecarProtocol", (_KnowsAddresses, AutoHTTPProtocol), {}))

#: For ``uvicorn.run(http="meshtls.integrations.uvicorn:PeerProtocol")``. A connection without TLS, or over a context
#: that is not one of meshtls, is aborted.
PeerProtocol = peer_protocol(AutoHTTPProtocol)
