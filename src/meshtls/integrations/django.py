"""Django: the middleware puts the verified peer at ``request.spiffe_peer``, and ``@require(...)`` guards a view.

MIDDLEWARE = ["meshtls.integrations.django.peer_middleware", ...]

The peer is that of the connection. For WSGI, serve with gunicorn, which exposes the connection; for ASGI, with
``meshtls.integrations.uvicorn``. With any other server every request is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse, HttpResponseForbidden
from django.utils.decorators import sync_and_async_middleware

from meshtls.errors import RequestError
from meshtls.integrations.asgi import PEER, peer_of
from meshtls.integrations.peers import required_ids, verified_peer
from meshtls.logs import logger
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["peer_middleware", "peer_of_request", "require"]

log = logger("meshtls.policy")
View = Callable[..., Any]


def peer_of_request(request: Any) -> VerifiedPeer:
    """The verified peer that sent this request. Raises RequestError if the server has verified none."""
    if hasattr(request, "scope"):
        return peer_of(request.scope)
    connection = request.META.get("gunicorn.socket")
    if connection is None:
        raise RequestError("WSGI request: no connection to take the peer from; serve the application with gunicorn")
    return verified_peer(connection)


@sync_and_async_middleware  # type: ignore[untyped-decorator]  # Django has no types
def peer_middleware(get_response: View) -> View:
    """Middleware that answers a request without a verified peer with 403, without calling a view."""

    def admit(request: Any) -> HttpResponse | None:
        try:
            setattr(request, PEER, peer_of_request(request))
        except RequestError as error:
            log.warning("refused: %s", error)
            return HttpResponseForbidden("forbidden\n", content_type="text/plain")
        return None

    if iscoroutinefunction(get_response):

        async def answer_async(request: Any) -> Any:
            return admit(request) or await get_response(request)

        return answer_async

    def answer(request: Any) -> Any:
        return admit(request) or get_response(request)

    return answer


def require(*spiffe_ids: SpiffeId | str) -> Callable[[View], View]:
    """Decorator of a view: only peers with these IDs may call it, others get 403. Works without ``peer_middleware``.

    Raises TypeError without an ID, and InvalidSpiffeIdError for an invalid one.
    """
    wanted = required_ids(*spiffe_ids)

    def refusal(request: Any) -> HttpResponse | None:
        try:
            peer = peer_of_request(request)
        except RequestError as error:
            log.warning("refused: %s", error)
        else:
            if peer.spiffe_id in wanted:
                return None
            log.info("refused: peer %s may not call %s", peer.spiffe_id, request.path)
        return HttpResponseForbidden("forbidden\n", content_type="text/plain")

    def guard(view: View) -> View:
        if iscoroutinefunction(view):

            @wraps(view)
            async def guarded_async(request: Any, *arguments: Any, **names: Any) -> Any:
                return refusal(request) or await view(request, *arguments, **names)

            return guarded_async

        @wraps(view)
        def guarded(request: Any, *arguments: Any, **names: Any) -> Any:
            return refusal(request) or view(request, *arguments, **names)

        return guarded

    return guard
