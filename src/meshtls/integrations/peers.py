"""Who is at the other end of a connection, whatever library carries it."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Protocol

from meshtls.errors import RequestError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Carrier", "required_ids", "verified_peer"]


class Carrier(Protocol):
    """asyncio's StreamWriter and transports, uvloop's, and httpx's ``response.extensions["network_stream"]``."""

    def get_extra_info(self, name: str, /) -> Any:
        """What the carrier has under this name, None for nothing."""


def verified_peer(connection: Carrier | socket.socket) -> VerifiedPeer:
    """The peer at the other end, as a context of ours verified and authorized it.

    A socket is an ``ssl.SSLSocket`` of ours, as in gunicorn's ``environ["gunicorn.socket"]``. Raises RequestError where
    the connection is not TLS, its handshake is not over or its context none of ours: never an unverified peer.
    """
    tls = _tls_of(connection)
    # httpcore's sync backend hands out the C object, which knows the SSLSocket that it belongs to.
    peer = getattr(getattr(tls, "owner", tls), "peer", None)
    if not isinstance(peer, VerifiedPeer):
        raise RequestError(
            "verified_peer: wanted a connection over a meshtls context, got"
            f" {'plaintext' if tls is None else 'TLS that verified no SPIFFE ID'}"
        )
    return peer


def _tls_of(connection: Carrier | socket.socket) -> Any:
    if isinstance(connection, socket.socket):
        return connection if isinstance(connection, ssl.SSLSocket) else None
    return connection.get_extra_info("ssl_object")


def required_ids(*spiffe_ids: SpiffeId | str) -> frozenset[SpiffeId]:
    """What a ``require`` takes. Raises TypeError for none at all and InvalidSpiffeIdError for a text that is no ID."""
    if not spiffe_ids:
        raise TypeError("require: wanted one or more SPIFFE IDs, got none; name each peer that is welcome")
    for one in spiffe_ids:
        if not isinstance(one, SpiffeId | str):
            raise TypeError(
                f"require: wanted SPIFFE IDs, each a str or SpiffeId, got {one!r}; give each as an argument"
            )
    return frozenset(SpiffeId.parse(one) if isinstance(one, str) else one for one in spiffe_ids)
