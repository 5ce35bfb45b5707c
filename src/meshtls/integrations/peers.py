"""Who is at the other end of a connection, whatever library carries it."""

from __future__ import annotations

from typing import Any, Protocol

from meshtls.errors import RequestError
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Carrier", "verified_peer"]


class Carrier(Protocol):
    """asyncio's StreamWriter and transports, uvloop's, and httpx's ``response.extensions["network_stream"]``."""

    def get_extra_info(self, name: str, /) -> Any:
        """What the carrier has under this name, None for nothing."""


def verified_peer(connection: Carrier) -> VerifiedPeer:
    """The peer at the other end, as a context of ours verified and authorized it.

    Raises RequestError where the connection is not TLS or its context none of ours: never a peer that was not verified.
    """
    tls = connection.get_extra_info("ssl_object")
    # httpcore's sync backend hands out the C object, which knows the SSLSocket that it belongs to.
    peer = getattr(getattr(tls, "owner", tls), "peer", None)
    if not isinstance(peer, VerifiedPeer):
        raise RequestError(
            "verified_peer: wanted a connection over a meshtls context, got"
            f" {'plaintext' if tls is None else 'TLS that verified no SPIFFE ID'}"
        )
    return peer
