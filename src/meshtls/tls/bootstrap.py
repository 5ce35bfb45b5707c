"""TLS for a node that has no SVID yet: the server proves itself, the client stays anonymous. The names are
conspicuous on purpose.

This is the one place without mutual TLS. A client that connects through it must prove itself by other means (a join
token, a certificate of the node's own), and the server behind it serves nothing else.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, Self

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.clock import Clock, SystemClock
from meshtls.policy.authorizer import Authorizer, Target, check
from meshtls.svid.context import X509Context, X509ContextSource
from meshtls.svid.verify import VerifiedPeer, verify_peer
from meshtls.tls.keys import load_svid
from meshtls.tls.peer import watch_messages
from meshtls.tls.verifying import VerifyingSSLObject, bounded, on_message

__all__ = ["AnonymousClientContext", "AnonymousClientsServerContext"]

_OPTIONS = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET


class AnonymousClientsServerContext(ssl.SSLContext):
    """The context of a server that shows the source's newest SVID and asks its clients for NO certificate."""

    _source: X509ContextSource
    _alpn: tuple[str, ...]
    _newest: tuple[X509Context, ssl.SSLContext] | None

    @classmethod
    def over(cls, source: X509ContextSource, alpn: Sequence[str] = ()) -> Self:
        self = cls(ssl.PROTOCOL_TLS_SERVER)
        self._source, self._alpn, self._newest = source, tuple(alpn), None
        return self

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Raises LocalIdentityError where the source has no valid SVID."""
        if not server_side:
            raise ValueError("wanted a server connection of this context")
        return self._current().wrap_bio(incoming, outgoing, server_side=True)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        raise TypeError("wrap_socket: this context is for asyncio's connections")

    def _current(self) -> ssl.SSLContext:
        snapshot = self._source.snapshot()
        if self._newest is None or self._newest[0] is not snapshot:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.options |= _OPTIONS
            context.num_tickets = 0
            if self._alpn:
                context.set_alpn_protocols(self._alpn)
            load_svid(context, snapshot.svid)
            self._newest = snapshot, context
        return self._newest[1]


class AnonymousClientContext(ssl.SSLContext):
    """The context of a client that shows NO certificate, and connects to a server of this bundle that ``authorizer``
    allows.
    """

    sslobject_class = VerifyingSSLObject
    _bundle: TrustBundle
    _authorizer: Authorizer
    _clock: Clock

    @classmethod
    def trusting(
        cls, bundle: TrustBundle, authorizer: Authorizer, alpn: Sequence[str] = (), clock: Clock = SystemClock()
    ) -> Self:
        self = cls(ssl.PROTOCOL_TLS_CLIENT)
        self._bundle, self._authorizer, self._clock = bundle, authorizer, clock
        self.check_hostname = False  # the SPIFFE ID is the name; the authorizer compares it
        self.verify_mode = ssl.CERT_REQUIRED
        self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.options |= _OPTIONS
        if alpn:
            self.set_alpn_protocols(list(alpn))
        if bundle.x509_authorities:
            self.load_verify_locations(cadata=bundle.to_der())
        watch_messages(self, on_message)
        return self

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return bounded(super().wrap_bio(incoming, outgoing, server_side, server_hostname, session), incoming)

    def check_peer(self, chain: Sequence[bytes], port: int | None) -> VerifiedPeer:
        """Verify the server's chain by the bundle, then ask the authorizer. Raises PeerError."""
        peer = verify_peer(chain, BundleSet([self._bundle]), self._clock.now())
        refusal = check(self._authorizer, peer, Target(self._bundle.trust_domain.id, port, dialled=True))
        if refusal is not None:
            raise refusal
        return peer
