"""What a listener's policy judges: one connection, one stream of a tunnel, or one HTTP request on either. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["HttpRequest", "Request"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request's head, as it will be written to the app (RFC 9110, sections 6.2 and 6.3). For the policy engine;
    nothing makes or evaluates one yet.

    ``host`` is the Host field or ``:authority``, with its port if it was sent. ``path`` includes the query. ``headers``
    are in the order of their arrival, with names in lower case.
    """

    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """The facts that a policy may ask for. A tunnel's streams share one. ``Gate.judge`` evaluates ``peer``,
    ``destination`` and ``port``; the other three are for the policy engine, and nothing evaluates them yet.

    - ``peer``: the other side with the identity that it proved; None for plaintext, which proves none.
    - ``destination``, ``port``: this side's ID, and its app's port; no port where we call.
    - ``source_ip``: the address that the connection came from, as text; None where we call. Not evaluated yet.
    - ``sni``: the server name that a client asked for in its ClientHello (RFC 6066, section 3), which is the client's
      claim. None where it named none, for plaintext, and where we call. Not evaluated yet.
    - ``http``: None where no HTTP request is read, which is everywhere so far. Not evaluated yet.
    """

    peer: VerifiedPeer | None
    destination: SpiffeId
    port: int | None = None
    source_ip: str | None = None
    sni: str | None = None
    http: HttpRequest | None = None

    @property
    def source(self) -> SpiffeId | None:
        """The ID that the peer proved."""
        return None if self.peer is None else self.peer.spiffe_id
