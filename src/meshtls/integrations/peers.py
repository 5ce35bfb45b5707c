"""The verified peer of a connection, for any library."""

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
        """The carrier's object of this name, or None."""


def verified_peer(connection: Carrier | socket.socket) -> VerifiedPeer:
    """The peer of the connection, as verified and authorized by a meshtls context.

    A socket must be an ``ssl.SSLSocket`` of such a context, as in gunicorn's ``environ["gunicorn.socket"]``.

    Raises RequestError if the connection is not TLS, its handshake is not complete, or its context is not one of
    meshtls. An unverified peer is never returned.
    """
    if isinstance(connection, socket.socket):
        tls: Any = connection if isinstance(connection, ssl.SSLSocket) else None
    else:
        tls = connection.get_extra_info("ssl_object")
    # httpcore's sync backend returns the C object, whose owner is the SSLSocket.
    peer = getattr(getattr(tls, "owner", tls), "peer", None)
    if not isinstance(peer, VerifiedPeer):
        raise RequestError(
            "verified_peer: wanted a connection over a meshtls context, got"
            f" {'plaintext' if tls is None else 'TLS that verified no SPIFFE ID'}"
        )
    return peer


def required_ids(*spiffe_ids: SpiffeId | str) -> frozenset[SpiffeId]:
    """The IDs passed to ``require``. Raises TypeError without an ID, InvalidSpiffeIdError for an invalid one."""
    if not spiffe_ids:
        raise TypeError("require: wanted one or more SPIFFE IDs, got none; pass the ID of each peer to allow")
    for one in spiffe_ids:
        if not isinstance(one, SpiffeId | str):
            raise TypeError(
                f"require: wanted SPIFFE IDs, each a str or SpiffeId, got {one!r}; pass each as an argument"
            )
    return frozenset(SpiffeId.parse(one) if isinstance(one, str) else one for one in spiffe_ids)
