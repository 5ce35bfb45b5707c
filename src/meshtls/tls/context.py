"""A context per generation, never changed once made, and the cache that hands out the newest.

``load_cert_chain`` on a live context would swap the leaf, but a CA can never be taken out of its store, and a session
ticket of before a trust change still resumes on it. A new SSLContext has neither fault.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError, NotAuthorizedError
from meshtls.policy.authorizer import Authorizer, Target
from meshtls.svid.context import X509Context, X509ContextSource
from meshtls.svid.verifier import PeerVerifier
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.keys import load_svid
from meshtls.tls.peer import watch_messages
from meshtls.tls.verifying import VerifyingSSLObject, VerifyingSSLSocket, preview

__all__ = ["GenerationContext", "TlsContexts", "TlsOptions"]

# TLS 1.3's suites are all AEAD and not set by this call; for 1.2 the same is asked for.
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """``minimum_version`` is TLS 1.3 unless a peer needs 1.2; ``alpn`` lists protocol names, preferred first."""

    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    alpn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.minimum_version not in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            raise ConfigError(f"minimum TLS version: wanted TLSv1_2 or TLSv1_3, got {self.minimum_version.name}")


class GenerationContext(ssl.SSLContext):
    """The SSLContext of one snapshot for one side: its connections verify and authorize (see VerifyingSSLObject)."""

    sslobject_class = VerifyingSSLObject
    sslsocket_class = VerifyingSSLSocket
    snapshot: X509Context
    server_side: bool
    _authorizer: Authorizer
    _clock: Clock
    _verifier: PeerVerifier

    @classmethod
    def build(
        cls, snapshot: X509Context, authorizer: Authorizer, *, server_side: bool, options: TlsOptions, clock: Clock
    ) -> Self:
        """Raises LocalIdentityError where the snapshot has no SVID that OpenSSL takes."""
        self = cls(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        self.snapshot, self.server_side = snapshot, server_side
        self._authorizer, self._clock = authorizer, clock
        self._verifier = PeerVerifier(snapshot.bundles)
        self._harden(options)
        self._load_roots()
        load_svid(self, snapshot.svid)
        watch_messages(self, preview)
        return self

    def judge(self, chain: Sequence[bytes], port: int | None) -> VerifiedPeer:
        """Verify the chain by the bundles of this generation, then ask the authorizer. Raises PeerError."""
        peer = self._verifier.verify(chain, self._clock.now())
        decision = self._authorizer(peer, Target(self.snapshot.svid.spiffe_id, port))
        if not decision:
            raise NotAuthorizedError(decision.reason, peer)
        return peer

    def _harden(self, options: TlsOptions) -> None:
        self.check_hostname = False  # the SPIFFE ID is the name; the authorizer compares it
        self.verify_mode = ssl.CERT_REQUIRED
        self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a bundle may hold an intermediate as its authority
        self.minimum_version = options.minimum_version
        self.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        self.set_ciphers(_TLS12_CIPHERS)
        if self.server_side:
            self.num_tickets = 0  # a resumed session shows no chain to verify
        if options.alpn:
            self.set_alpn_protocols(options.alpn)

    def _load_roots(self) -> None:
        roots = b"".join(bundle.to_der() for bundle in self.snapshot.bundles)
        if roots:
            self.load_verify_locations(cadata=roots)


class TlsContexts:
    """The context of the source's newest generation, made on first use of each."""

    def __init__(
        self,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        server_side: bool,
        options: TlsOptions = TlsOptions(),
        clock: Clock = SystemClock(),
    ) -> None:
        self.source = source
        self.server_side = server_side
        self._authorizer = authorizer
        self._options = options
        self._clock = clock
        self._newest: GenerationContext | None = None

    def current(self) -> GenerationContext:
        """Raises LocalIdentityError where the source has no valid SVID now."""
        snapshot = self.source.snapshot()
        newest = self._newest
        if newest is None or newest.snapshot is not snapshot:
            newest = self._newest = GenerationContext.build(
                snapshot, self._authorizer, server_side=self.server_side, options=self._options, clock=self._clock
            )
        return newest

    def with_alpn(self, alpn: tuple[str, ...]) -> TlsContexts:
        """The same, offering these protocols."""
        options = replace(self._options, alpn=alpn)
        return TlsContexts(
            self.source, self._authorizer, server_side=self.server_side, options=options, clock=self._clock
        )
