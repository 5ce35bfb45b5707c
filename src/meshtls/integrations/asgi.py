"""The peer of an ASGI request, which the server puts into the scope and the application reads.

It is in the scope's ``state``, so in Starlette and FastAPI it is ``request.state.spiffe_peer``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from meshtls.errors import RequestError
from meshtls.svid.verify import VerifiedPeer

__all__ = ["PEER", "RequirePeer", "peer_of"]

PEER = "spiffe_peer"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Allow = Callable[[VerifiedPeer, Scope], bool]


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
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"10")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b"forbidden\n"})

    def _allows(self, scope: Scope) -> bool:
        try:
            peer = peer_of(scope)
        except RequestError:
            return False
        return self._allow(peer, scope) is True
