"""What a listener's policy judges: one connection, or one stream of a tunnel. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """``peer`` is the other side with the identity that it proved; None for plaintext, which proves none.

    ``destination`` is the ID of this side and ``port`` its app's port, None where we call. ``source_ip`` is the address
    that the connection came from, as text; None where we call.
    """

    peer: VerifiedPeer | None
    destination: SpiffeId
    port: int | None = None
    source_ip: str | None = None

    @property
    def source(self) -> SpiffeId | None:
        """The ID that the peer proved."""
        return None if self.peer is None else self.peer.spiffe_id
