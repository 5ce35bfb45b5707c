"""FastAPI: ``Depends(require("spiffe://example.org/web"))`` allows these peers to call a route, and passes the peer.

The server must put the peer into the scope: see ``meshtls.integrations.uvicorn``. With any other server, all requests
are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import HTTPException, WebSocketException
from fastapi.requests import HTTPConnection

from meshtls.errors import RequestError
from meshtls.integrations.asgi import Allow, peer_of
from meshtls.integrations.peers import required_ids
from meshtls.logs import logger
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["require"]

log = logger("meshtls.policy")


def require(
    *spiffe_ids: SpiffeId | str, allow: Allow | None = None
) -> Callable[[HTTPConnection], Awaitable[VerifiedPeer]]:
    """A dependency whose value is the verified peer, if it has one of these IDs or ``allow(peer, scope)`` is True.

    Pass IDs or ``allow``, not both. Other requests get 403 (RFC 9110, section 15.5.4); a WebSocket is closed with 1008
    (RFC 6455, section 7.4.1) before it is accepted. The reason is logged, and not in the answer.

    Raises TypeError without either, since there is no safe default, and InvalidSpiffeIdError for an invalid ID.
    """
    if allow is None:
        wanted = required_ids(*spiffe_ids)
        allow = lambda peer, scope: peer.spiffe_id in wanted  # noqa: E731  # the default of the parameter
    elif spiffe_ids or not callable(allow):
        raise TypeError(f"require: wanted SPIFFE IDs or a function allow(peer, scope), one of the two, got {allow!r}")

    async def peer(connection: HTTPConnection) -> VerifiedPeer:
        try:
            caller = peer_of(connection.scope)
        except RequestError as error:
            log.warning("refused: %s", error)
            raise _refusal(connection) from None
        if allow(caller, connection.scope) is not True:
            log.info("refused: peer %s may not call %s", caller.spiffe_id, connection.url.path)
            raise _refusal(connection)
        return caller

    return peer


def _refusal(connection: HTTPConnection) -> Exception:
    return WebSocketException(1008) if connection.scope["type"] == "websocket" else HTTPException(403, "forbidden")
