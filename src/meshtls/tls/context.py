"""A context per generation, never changed once made, and the cache that hands out the newest.

``load_cert_chain`` on a live context would swap the leaf, but a CA can never be removed from its store, and a session
ticket from before a change of trust would still resume on it. A new SSLContext has neither problem: it has its own
ticket keys, which end with it, and so do the sessions that a client keeps in it.

Beside the roots its store holds the intermediates of our own SVID, if they lead to a root: most peers' certificates
have the same ones. OpenSSL ends its own path there, which saves it a signature check on each handshake (an eighth of
one). No other peer is accepted for it: the store is a coarse filter, and ``verify_peer`` requires a path to the root.
"""

from __future__ import annotations

import os
import platform
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError, LocalIdentityError, PeerError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.policy.authorizer import Authorizer, Target, check, check_authorizer
from meshtls.private_files import opened_to_append
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context, X509ContextSource
from meshtls.svid.trust import Trust
from meshtls.svid.verifier import CurrentVerifier, PeerVerifier
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.failures import NoIdentityError
from meshtls.tls.handshake_budget import LargeHandshakes
from meshtls.tls.keys import insecure_keylog, load_svid
from meshtls.tls.peer import set_context, watch_messages
from meshtls.tls.sessions import Sessions
from meshtls.tls.verifying import VerifyingSSLObject, VerifyingSSLSocket, bounded, on_message

__all__ = ["GenerationContext", "LateSSLSocket", "TlsContexts", "TlsOptions", "harden"]

log = logger("meshtls.tls")

# TLS 1.3's suites are all AEAD and not set by this call; this requires AEAD of TLS 1.2 as well.
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# SSL_OP_NO_TX_CERTIFICATE_COMPRESSION and SSL_OP_NO_RX_CERTIFICATE_COMPRESSION, which ``ssl`` has no names for: a leaf
# of 600 bytes is not worth a compressor's memory and time.
_NO_CERTIFICATE_COMPRESSION = 1 << 32 | 1 << 33
_COMPRESSES_SINCE = (3, 2)
_GROUPS = ("X25519", "prime256v1", "secp384r1")


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """``minimum_version`` is TLS 1.3 unless a peer needs 1.2; ``alpn`` lists protocol names, preferred first.

    ``resumption``: a server issues session tickets, and a client uses them (RFC 8446, section 2.2). Each
    resumed connection is verified and authorized like any other.

    ``group`` is the one key exchange to speak, by OpenSSL's name: X25519, prime256v1 or secp384r1. None leaves the
    choice to the library, whose list begins with a post-quantum hybrid from OpenSSL 3.5 on.

    ``insecure_keylog_file``: append the secrets of each connection to this file, so that Wireshark can decrypt what was
    captured. So can anyone who reads the file: only for debugging. Each use of it is logged as a warning. A number is
    the descriptor of an open file, for which its owner warns.
    """

    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    alpn: tuple[str, ...] = ()
    resumption: bool = False
    group: str | None = None
    insecure_keylog_file: Path | int | None = None

    def __post_init__(self) -> None:
        if self.minimum_version not in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            raise ConfigError(f"minimum TLS version: wanted TLSv1_2 or TLSv1_3, got {self.minimum_version.name}")
        if self.group not in (None, *_GROUPS):
            raise ConfigError(f"key exchange group: wanted {', '.join(_GROUPS)} or None, got {self.group!r}")
        if self.group and not _is_spoken(self.group):
            raise ConfigError(
                f"key exchange group: {self.group} is unknown to the ssl module of Python {platform.python_version()};"
                " take another group, or a newer Python"
            )


@cache
def _is_spoken(group: str) -> bool:
    # Python before 3.11.4 accepts only the NIST curves.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ecdh_curve(group)
    except (ssl.SSLError, ValueError):
        return False
    return True


class LateSSLSocket(VerifyingSSLSocket):
    """A client's socket may be wrapped long before it is connected: it uses the newest identity when it connects."""

    #: The source of the newest context; None for a socket that keeps the context it was wrapped with.
    contexts: TlsContexts | None = None

    def connect(self, addr: Any) -> None:
        """Raises OSError, NoIdentityError among them, and RefusedHandshake, which is one too."""
        self._renew()
        super().connect(addr)

    def connect_ex(self, addr: Any) -> int:
        self._renew()
        return super().connect_ex(addr)

    def _renew(self) -> None:
        if self.contexts is None or self.server_side:
            return
        try:
            newest = self.contexts.current()
        except LocalIdentityError as error:
            raise NoIdentityError(error) from error
        if set_context(self, newest):
            self._check = None  # drop the check of the generation that it was wrapped with


class GenerationContext(ssl.SSLContext):
    """The SSLContext of one snapshot for one side. It is the PeerCheck of its connections (``tls/verifying.py``)."""

    sslobject_class = VerifyingSSLObject
    sslsocket_class = LateSSLSocket
    snapshot: X509Context
    server_side: bool
    #: The sessions of a client with ``resumption``; empty otherwise.
    sessions: Sessions
    resumption: bool
    _precheck: Authorizer
    _clock: Clock
    _verifier: PeerVerifier
    _large: LargeHandshakes
    #: What the latest peer asked for. All ask for the same at one listener, and an authorizer may know it by that.
    _target: Target | None = None

    @classmethod
    def build(
        cls,
        snapshot: X509Context,
        precheck: Authorizer,
        verifier: PeerVerifier,
        *,
        server_side: bool,
        options: TlsOptions,
        clock: Clock,
        large: LargeHandshakes,
    ) -> Self:
        """``verifier`` has the trust of this snapshot; ``large`` is the budget that all generations share.

        Raises LocalIdentityError if the snapshot has no SVID that OpenSSL loads.
        """
        self = cls(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        self.snapshot, self.server_side = snapshot, server_side
        self._precheck, self._clock, self._verifier = precheck, clock, verifier
        self._large = large
        large.allow_for_own_chain(sum(len(one.public_bytes(Encoding.DER)) for one in snapshot.svid.chain))
        self.sessions, self.resumption = Sessions(), options.resumption
        harden(self, options, server_side=server_side)
        roots = b"".join(bundle.to_der() for bundle in snapshot.bundles)
        if roots:
            self.load_verify_locations(cadata=roots + self._own_intermediates())
        load_svid(self, snapshot.svid)
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
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        return bounded(connection, incoming, self._large if server_side else None)

    @property
    def local_id(self) -> SpiffeId:
        """The ID of the SVID that it presents."""
        return self.snapshot.svid.spiffe_id

    @property
    def trust(self) -> Trust:
        """The trust by which peers are verified."""
        return self._verifier.trust

    def check_peer(self, chain: Sequence[bytes], port: int | None) -> VerifiedPeer:
        """Verify the chain by this generation's trust, then run the precheck. Raises PeerError."""
        return self._run_precheck(self._verifier.verify(chain, self._clock.now()), port)

    def check_resumed_peer(self, leaf: bytes, port: int | None) -> VerifiedPeer:
        """As ``check_peer`` for a resumed session: verify the chain with which the leaf passed under this trust."""
        return self._run_precheck(self._verifier.verify_again(leaf, self._clock.now()), port)

    def _run_precheck(self, peer: VerifiedPeer, port: int | None) -> VerifiedPeer:
        target = self._target
        if target is None or target.port != port:
            target = self._target = Target(self.local_id, port, not self.server_side)
        refusal = check(self._precheck, peer, target)
        if refusal is not None:
            raise refusal
        return peer

    def _own_intermediates(self) -> bytes:
        own = [certificate.public_bytes(Encoding.DER) for certificate in self.snapshot.svid.chain]
        try:
            self._verifier.verify(own, self._clock.now())
        except PeerError:
            return b""  # peers will refuse us; whom we trust does not depend on it
        return b"".join(own[1:])


def harden(context: ssl.SSLContext, options: TlsOptions, *, server_side: bool) -> None:
    """Every setting that is neither identity nor trust, for a generation's context and for RotatingContext."""
    context.check_hostname = False  # the SPIFFE ID is the name; the authorizer compares it
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a bundle may hold an intermediate as its authority
    context.minimum_version = options.minimum_version
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if ssl.OPENSSL_VERSION_INFO >= _COMPRESSES_SINCE:
        context.options |= _NO_CERTIFICATE_COMPRESSION
    if not options.resumption:
        context.options |= ssl.OP_NO_TICKET
    if server_side:
        # Each costs a server that uses OpenSSL 3.0 about 130 µs.
        context.num_tickets = 1 if options.resumption else 0
    context.set_ciphers(_TLS12_CIPHERS)
    if options.group:
        context.set_ecdh_curve(options.group)
    if options.insecure_keylog_file is not None:
        try:
            insecure_keylog(context, options.insecure_keylog_file)
        except (ConfigError, OSError) as error:
            # It was usable when the contexts were made: no connection is made until it is so again.
            raise LocalIdentityError(f"insecure_keylog_file: {error}") from error
    if options.alpn:
        context.set_alpn_protocols(options.alpn)


class TlsContexts:
    """The context of the source's newest generation, made on first use of each.

    ``precheck`` is called within each handshake with the verified peer, and can only refuse. In the library it is the
    user's authorizer, and the only check. In the sidecar it is a gate's, and the connection or stream is authorized
    after it is registered, so that a change of policy reaches it (``sidecar/gate.py``).

    ``verifier`` is shared by all users of this source.

    Raises TypeError for a value that is not an authorizer, or not a source, and ConfigError for an
    ``insecure_keylog_file`` that can't be used.
    """

    def __init__(
        self,
        source: X509ContextSource,
        precheck: Authorizer,
        *,
        server_side: bool,
        options: TlsOptions = TlsOptions(),
        clock: Clock = SystemClock(),
        verifier: CurrentVerifier | None = None,
    ) -> None:
        check_authorizer(precheck)
        if not callable(getattr(source, "snapshot", None)):
            raise TypeError(
                f"source: wanted an X509ContextSource, which has snapshot(), got {source!r};"
                " of blocking(...) it is what `with` or enter() gives"
            )
        if isinstance(options.insecure_keylog_file, Path):
            os.close(opened_to_append(options.insecure_keylog_file))
            log.warning(
                "INSECURE: the secrets of each TLS connection are written to %s (insecure_keylog_file):"
                " whoever reads it can decrypt them",
                options.insecure_keylog_file,
            )
        self.source = source
        self.server_side = server_side
        self._precheck = precheck
        self.options = options
        self._clock = clock
        self._verifier = verifier or CurrentVerifier()
        self._newest: GenerationContext | None = None
        self._large = LargeHandshakes(clock)
        self._without_identity = Outage(log, clock)
        self._done = "accepted" if server_side else "made"

    def current(self) -> GenerationContext:
        """Raises LocalIdentityError if the source has no valid SVID now, which is logged once until it has one."""
        try:
            snapshot = self.source.snapshot()
        except LocalIdentityError as error:
            self._without_identity.failed(type(error), f"no connection can be {self._done}: {error}")
            raise
        if self._without_identity.failures:
            self._without_identity.ended(f"an identity is there again: connections can be {self._done}")
        newest = self._newest
        if newest is None or newest.snapshot is not snapshot:
            newest = self._newest = GenerationContext.build(
                snapshot,
                self._precheck,
                self._verifier.follow(snapshot),
                server_side=self.server_side,
                options=self.options,
                clock=self._clock,
                large=self._large,
            )
        return newest

    def distrust(self, snapshot: X509Context, peer: VerifiedPeer) -> PeerError | None:
        """Why the trust of this snapshot refuses the peer of a live connection, if it does."""
        return self._verifier.follow(snapshot).distrust(peer)

    def with_alpn(self, alpn: tuple[str, ...]) -> TlsContexts:
        """A copy that offers these protocols."""
        if alpn == self.options.alpn:
            return self  # HTTP libraries set it again for each connection
        options = replace(self.options, alpn=alpn)
        return TlsContexts(
            self.source,
            self._precheck,
            server_side=self.server_side,
            options=options,
            clock=self._clock,
            verifier=self._verifier,
        )
