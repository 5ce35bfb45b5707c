"""What a listener's policy judges: one connection, one stream of a tunnel, or one HTTP request on either. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http import HttpRequest

__all__ = ["WORD_CLAIMS", "HttpRequest", "Request", "RequestAuth"]

#: Claims that are words with spaces between them, which policies take as lists, as Istio has Envoy take them (RFC 8693,
#: section 4.2).
WORD_CLAIMS = ("scope", "permission")


class RequestAuth(msgspec.Struct, frozen=True):
    """What a verified JWT says of the caller of one HTTP request (Istio's ``request.auth``).

    ``principal`` is ``issuer/subject``, and empty without a subject; ``presenter`` is the claim ``azp``. ``claims`` is
    the token's payload, with ``scope`` and ``permission`` as lists of words. ``spiffe_id`` is that of a JWT-SVID, as
    text: a policy may name the caller by it, too (``principals``).
    """

    principal: str
    audiences: tuple[str, ...] = ()
    presenter: str | None = None
    claims: Mapping[str, object] = {}
    spiffe_id: str | None = None

    @property
    def principals(self) -> tuple[str, ...]:
        """The names that ``requestPrincipals`` and ``request.auth.principal`` match, one of them being enough."""
        return (self.principal,) if self.spiffe_id is None else (self.principal, self.spiffe_id)


@dataclass(frozen=True, slots=True)
class Request:
    """The facts that a policy may ask for. A tunnel's streams share one. Istio's policies ask for all but
    ``destination``; an authorizer for ``peer``, ``destination`` and ``port``.

    - ``peer``: the other side with the identity that it proved; None for plaintext, which proves none.
    - ``destination``, ``port``: this side's ID, and its app's port; no port where we call.
    - ``source_ip``: the address that the connection came from, as text; None where we call.
    - ``sni``: the server name that a client asked for in its ClientHello (RFC 6066, section 3), which is the client's
      claim. None where it named none, for plaintext, and where we call.
    - ``http``: None where no HTTP request is read. Its path is normalized before policies are evaluated.
    - ``remote_ip``: the original client's address, by X-Forwarded-For or the PROXY protocol; None is ``source_ip``.
      What is no address, such as "", is one that is not known: no ALLOW rule that asks for it matches, and every such
      DENY rule does.
    - ``destination_ip``: the address of ours that was connected to, as text.
    - ``auth``: of an HTTP request whose token was verified.
    """

    peer: VerifiedPeer | None
    destination: SpiffeId
    port: int | None = None
    source_ip: str | None = None
    sni: str | None = None
    http: HttpRequest | None = None
    remote_ip: str | None = None
    destination_ip: str | None = None
    auth: RequestAuth | None = None

    @property
    def source(self) -> SpiffeId | None:
        """The ID that the peer proved."""
        return None if self.peer is None else self.peer.spiffe_id
