"""Who makes an ASGI request: the peer of its TLS connection, or, behind a sidecar, whom the sidecar says."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from meshtls.errors import RequestError
from meshtls.integrations.asgi import CONNECTION, Connection, peer_of
from meshtls.integrations.asgi_request import header
from meshtls.policy.library import Policies
from meshtls.policy.request import HttpRequest, Request
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire import xfcc

__all__ = ["caller_by_sidecar", "caller_by_tls"]

#: Headers from which servers and middleware take the address of the client.
_CLAIM_AN_ADDRESS = (b"x-forwarded-for", b"forwarded")


def caller_by_tls(scope: Mapping[str, Any], policies: Policies) -> Request:
    """The request's connection, with the peer that the server verified. Raises RequestError without one, or if our own
    ID is not known.
    """
    peer = peer_of(scope)
    known = _connection(scope)
    own_id = policies.own_id or (known.local_id if known else None)
    if known is None or own_id is None:
        raise RequestError(
            "the server does not tell of its connection and its own ID; serve the application with"
            " meshtls.integrations.uvicorn"
        )
    return Request(
        peer,
        own_id,
        known.port,
        source_ip=known.source_ip,
        sni=known.sni,
        destination_ip=known.destination_ip,
    )


def caller_by_sidecar(scope: Mapping[str, Any], http: HttpRequest, policies: Policies, own_id: SpiffeId) -> Request:
    """The request's connection, with the peer of the sidecar's x-forwarded-client-cert, or none, for a request that
    came to it in plaintext.

    The addresses of the sidecar's client are not known. Raises RequestError for a request that is not from loopback,
    and for a header that is not by the sidecar of ``own_id``.
    """
    known = _connection(scope)
    # As they came: ``Connection`` may take headers out of what is judged.
    claimed = next((name for name, _ in scope["headers"] if name.lower() in _CLAIM_AN_ADDRESS), None)
    if known is None and claimed is not None:
        raise RequestError(
            f"{claimed.decode().lower()} may have changed the address of the client; serve the application with"
            " http='meshtls.integrations.uvicorn:SidecarProtocol'"
        )
    asks = policies.by_server_name(own_id)
    if asks is not None:
        raise RequestError(f"{asks} asks for connection.sni, which a sidecar does not tell; enforce it in the sidecar")
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", None)
    source = known.source_ip if known else client[0]
    if not _is_loopback(source):
        raise RequestError(
            f"wanted a request of the sidecar, from loopback, got one from {shown(source or 'no address')}"
        )
    port = known.port if known else server[1]
    forwarded = header(http, xfcc.HEADER)
    if forwarded is None:
        return Request(None, own_id, port)
    element = xfcc.last_element(forwarded)
    if element.by != str(own_id):
        raise RequestError(f"{xfcc.HEADER}: wanted one by {own_id}, got one by {shown(element.by)}")
    # Without certificates: the sidecar has verified them.
    return Request(VerifiedPeer(SpiffeId.parse(element.uri), ()), own_id, port)


def _connection(scope: Mapping[str, Any]) -> Connection | None:
    found = (scope.get("state") or {}).get(CONNECTION)
    return found if isinstance(found, Connection) else None


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
