"""``client_context`` and ``server_context``: real SSLContexts whose every new connection uses the newest generation.

A library may only change what does not weaken this. It may set the protocol names (ALPN). It may set an attribute to
the value that it has, as urllib3 does with ``verify_mode`` and ``check_hostname`` for each connection. A call that
would change whom we trust, or would have no effect, raises instead of being ignored.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn, Self

from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError, PeerError
from meshtls.logs import logger
from meshtls.policy.authorizer import Authorizer
from meshtls.svid.context import X509Context, X509ContextSource
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import LateSSLSocket, TlsContexts, TlsOptions, harden
from meshtls.tls.failures import NoIdentityError
from meshtls.tls.verifying import VerifyingSSLObject

__all__ = ["RotatingContext", "client_context", "server_context"]

log = logger("meshtls.tls")


def client_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> RotatingContext:
    """An SSLContext for clients: presents the source's newest SVID and checks the server by ``authorizer``.

    The server's name is its SPIFFE ID: host names are not checked. Use one context for one library's client, which may
    set its own ALPN on it.
    """
    return RotatingContext.over(TlsContexts(source, authorizer, server_side=False, options=options, clock=clock))


def server_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> RotatingContext:
    """An SSLContext for servers: requires a client certificate and checks the client by ``authorizer``."""
    return RotatingContext.over(TlsContexts(source, authorizer, server_side=True, options=options, clock=clock))


def _refuse(what: str) -> Callable[..., NoReturn]:
    def refuse(self: RotatingContext, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(what)

    return refuse


class RotatingContext(ssl.SSLContext):
    """Wraps each connection with the context of the newest generation; live connections keep theirs.

    The next read from a peer that is no longer trusted, and the next write to it, raise ssl.SSLCertVerificationError;
    what the peer sent is dropped. Nothing else ends such a connection, since the library that uses it owns it.

    Identity and trust come from the source and nowhere else: calls that would set them raise TypeError, and attributes
    can only be set to the value that they have (ValueError). If the source has no valid SVID, ``wrap_socket`` raises
    LocalIdentityError, and the object of ``wrap_bio`` raises one, which is an ssl.SSLError too, when first used.
    """

    _contexts: TlsContexts | None = None

    @classmethod
    def over(cls, contexts: TlsContexts) -> Self:
        self = cls(ssl.PROTOCOL_TLS_SERVER if contexts.server_side else ssl.PROTOCOL_TLS_CLIENT)
        harden(
            self,
            replace(contexts.options, alpn=(), group=None, insecure_keylog_file=None),
            server_side=contexts.server_side,
        )
        self._contexts = contexts
        return self

    @property
    def contexts(self) -> TlsContexts:
        if self._contexts is None:
            raise TypeError("RotatingContext: wanted one made by client_context or server_context")
        return self._contexts

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        self._check_use(server_side, session)
        contexts = self.contexts
        try:
            generation = contexts.current()
        except LocalIdentityError as error:
            return _unusable(error, incoming, outgoing)
        connection = generation.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
        if isinstance(connection, VerifyingSSLObject):
            # Raise at once to asyncio's client, which reports the failure; asyncio's server reports it to nobody.
            connection.send_alert_first = server_side
            connection.live_trust = _FollowedTrust(contexts, generation.snapshot)
        return connection

    def wrap_socket(
        self,
        sock: Any,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        self._check_use(server_side, session)
        generation = self.contexts.current()
        wrapped = generation.wrap_socket(
            sock,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
        )
        if isinstance(wrapped, LateSSLSocket):
            wrapped.accepting, wrapped.contexts = self, self.contexts
            wrapped.live_trust = _FollowedTrust(self.contexts, generation.snapshot)
        return wrapped

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """The one thing that HTTP libraries set on a context that they are given."""
        self._contexts = self.contexts.with_alpn(tuple(alpn_protocols))

    def set_ciphers(self, cipherlist: str, /) -> None:
        if self._contexts is not None:
            raise TypeError("set_ciphers: TLS 1.3 has none to choose from, and for TLS 1.2 the AEAD suites are set")
        super().set_ciphers(cipherlist)

    def get_ca_certs(self, binary_form: bool = False) -> Any:
        """The authorities of OpenSSL's coarse filter: those of all bundles, and our SVID's intermediates."""
        return self.contexts.current().get_ca_certs(binary_form)

    def cert_store_stats(self) -> dict[str, int]:
        return self.contexts.current().cert_store_stats()

    load_cert_chain = _refuse("load_cert_chain: this context's identity comes from its source")
    load_verify_locations = _refuse("load_verify_locations: this context's trust bundles come from its source")
    load_default_certs = _refuse("load_default_certs: this context's trust bundles come from its source")
    set_default_verify_paths = _refuse("set_default_verify_paths: this context's trust bundles come from its source")
    set_servername_callback = _refuse("set_servername_callback: SNI must not choose another context")
    set_npn_protocols = _refuse("set_npn_protocols: NPN is no more; wanted set_alpn_protocols")
    load_dh_params = _refuse("load_dh_params: this context's key exchange is fixed")
    set_ecdh_curve = _refuse("set_ecdh_curve: this context's key exchange is fixed")
    set_psk_client_callback = _refuse("set_psk_client_callback: peers are known by certificates here")
    set_psk_server_callback = _refuse("set_psk_server_callback: peers are known by certificates here")

    def __setattr__(self, name: str, value: object) -> None:
        if self._contexts is None or name.startswith("_"):
            super().__setattr__(name, value)
        elif (present := getattr(self, name, None)) != value:
            raise ValueError(
                f"{name} = {value!r}: this context keeps {present!r}; who is trusted comes from its source and its"
                " authorizer, and the rest is chosen with TlsOptions when it is made"
            )

    def _check_use(self, server_side: bool, session: ssl.SSLSession | None) -> None:
        if server_side != self.contexts.server_side:
            raise ValueError(
                f"wanted a {'server' if self.contexts.server_side else 'client'} connection of this context"
            )
        if session is not None:
            raise ValueError("session: a session of another generation must not be resumed")


class _FollowedTrust:
    """The LiveTrust of one connection. ``snapshot`` is that of its handshake."""

    __slots__ = ("_contexts", "_refusal", "_seen")

    def __init__(self, contexts: TlsContexts, snapshot: X509Context) -> None:
        self._contexts = contexts
        self._seen = snapshot
        self._refusal: PeerError | None = None

    def refusal(self, peer: VerifiedPeer) -> PeerError | None:
        if self._refusal is None:
            try:
                snapshot = self._contexts.source.snapshot()
            except LocalIdentityError:
                return None  # without an identity of ours, no newer trust is known
            if snapshot is not self._seen:
                self._refusal = self._contexts.distrust(snapshot, peer)
                self._seen = snapshot
                if self._refusal is not None:
                    log.warning("live connection ended: %s", self._refusal)
        return self._refusal


class _Unusable(ssl.SSLObject):
    """A connection without an identity of ours: it raises ``error`` as soon as it is used.

    asyncio asks a context for a connection before it knows the socket: an exception there leaves the socket open, and
    the peer waiting, until the garbage collector runs. It handles an ``ssl.SSLError`` that is raised in the handshake.
    """

    error: LocalIdentityError

    def do_handshake(self) -> NoReturn:
        raise NoIdentityError(self.error) from self.error

    def read(self, len: int = 1024, buffer: Any = None) -> NoReturn:  # noqa: A002  # ssl's own name
        self.do_handshake()

    def write(self, data: Any) -> NoReturn:
        self.do_handshake()


_UNUSABLE = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_UNUSABLE.sslobject_class = _Unusable


def _unusable(error: LocalIdentityError, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
    connection = _UNUSABLE.wrap_bio(incoming, outgoing, server_side=True)
    assert isinstance(connection, _Unusable)  # noqa: S101  # tells the type checker what sslobject_class made
    connection.error = error
    return connection
