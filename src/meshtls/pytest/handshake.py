"""A TLS handshake between two contexts, in memory."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from meshtls.errors import HandshakeError, LocalIdentityError, RequestError
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.failures import peer_error

__all__ = ["handshake"]

_ROUNDS = 8


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> VerifiedPeer:
    """Exchange bytes until both sides complete the handshake, and return the client as the server verified it.

    Raises the PeerError of the side that refused first, and LocalIdentityError if a side has no identity.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = _Side(client.wrap_bio(back, there, server_side=False))
    callee = _Side(server.wrap_bio(there, back, server_side=True))
    for _ in range(_ROUNDS):
        caller.step()
        callee.step()
        if caller.done and callee.done:
            return callee.peer()
    raise HandshakeError("the handshake did not complete")


@dataclass(slots=True)
class _Side:
    tls: ssl.SSLObject
    done: bool = field(default=False)

    def step(self) -> None:
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
        except ssl.SSLWantReadError:
            return
        except LocalIdentityError:
            raise
        except ssl.SSLError as error:
            raise peer_error(error) from error

    def peer(self) -> VerifiedPeer:
        peer = getattr(self.tls, "peer", None)
        if not isinstance(peer, VerifiedPeer):
            raise RequestError(
                "handshake: wanted a server context of meshtls.server_context, got one that verifies none"
            )
        return peer
