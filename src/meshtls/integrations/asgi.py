"""The peer of an ASGI request, which the server puts into the scope and the application reads.

It is in the scope's ``state``, so in Starlette and FastAPI it is ``request.state.spiffe_peer``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

from meshtls.errors import RequestError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["CONNECTION", "PEER", "Connection", "RequirePeer", "peer_of", "refuse"]

PEER = "spiffe_peer"
#: The key in the scope's ``state`` of what the server's protocol knows of the connection.
CONNECTION = "meshtls_connection"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Allow = Callable[[VerifiedPeer, Scope], bool]


class Connection(NamedTuple):
    """A connection as its sockets know it: ``scope["client"]`` may be what a header claims (X-Forwarded-For).

    ``local_id`` is the ID that the server presented, and ``sni`` the server name that the client asked for.
    """

    source_ip: str | None
    destination_ip: str | None
    port: int | None
    local_id: SpiffeId | None = None
    sni: str | None = None


def peer_of(scope: Mapping[str, Any]) -> VerifiedPeer:
    """The verified peer that sent this request. Raises RequestError if the server has verified none."""
    peer = (scope.get("state") or {}).get(PEER)
    if not isinstance(peer, VerifiedPeer):
        raise RequestError(
            f"{scope.get('type')} scope: no verified peer; serve the application with meshtls.integrations.uvicorn"
        )
    return peer


class RequirePeer:
    """Middleware that calls the application only if there is a verified peer and ``allow(peer, scope)`` is True.

    Otherwise an HTTP request gets 403, and a WebSocket is closed before it is accepted (servers answer it with 403). An
    exception in ``allow`` propagates to the server (500), and the application is not called.
    """

    def __init__(self, app: App, allow: Allow = lambda peer, scope: True) -> None:
        self._app = app
        self._allow = allow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._allows(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            await refuse(scope, send, 403, "forbidden\n")

    def _allows(self, scope: Scope) -> bool:
        try:
            peer = peer_of(scope)
        except RequestError:
            return False
        return self._allow(peer, scope) is True


async def refuse(scope: Scope, send: Send, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
    """Answer in the app's place. A WebSocket gets the same answer where the server can send one, and 403 otherwise."""
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        prefix = "websocket.http"
    body = text.encode()
    fields = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *((name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers),
    ]
    await send({"type": f"{prefix}.response.start", "status": status, "headers": fields})
    await send({"type": f"{prefix}.response.body", "body": body})
