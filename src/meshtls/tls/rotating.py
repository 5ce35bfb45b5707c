"""``client_context`` and ``server_context``: real SSLContexts whose every new connection uses the newest generation."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, NoReturn, Self

from meshtls.clock import Clock, SystemClock
from meshtls.policy.authorizer import Authorizer
from meshtls.svid.context import X509ContextSource
from meshtls.tls.context import TlsContexts, TlsOptions
from meshtls.tls.verifying import VerifyingSSLObject

__all__ = ["RotatingContext", "client_context", "server_context"]


def client_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> RotatingContext:
    """An SSLContext for clients: presents the source's newest SVID and asks ``authorizer`` about the server."""
    return RotatingContext.over(TlsContexts(source, authorizer, server_side=False, options=options, clock=clock))


def server_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    options: TlsOptions = TlsOptions(),
    clock: Clock = SystemClock(),
) -> RotatingContext:
    """An SSLContext for servers: wants a client certificate and asks ``authorizer`` about the client."""
    return RotatingContext.over(TlsContexts(source, authorizer, server_side=True, options=options, clock=clock))


class RotatingContext(ssl.SSLContext):
    """Wraps each connection with the context of the newest generation; live connections keep theirs.

    Identity and trust come from the source and nowhere else, so calls that would set them here raise TypeError rather
    than being ignored. ``wrap_bio`` and ``wrap_socket`` raise LocalIdentityError where the source has no valid SVID.
    """

    _contexts: TlsContexts | None = None

    @classmethod
    def over(cls, contexts: TlsContexts) -> Self:
        self = cls(ssl.PROTOCOL_TLS_SERVER if contexts.server_side else ssl.PROTOCOL_TLS_CLIENT)
        self.check_hostname = False
        self.verify_mode = ssl.CERT_REQUIRED
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
        connection = self.contexts.current().wrap_bio(
            incoming, outgoing, server_side=server_side, server_hostname=server_hostname
        )
        if isinstance(connection, VerifyingSSLObject):
            # asyncio's client reports the failure itself and has to hear of it at once; its server tells nobody.
            connection.send_alert_first = server_side
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
        return self.contexts.current().wrap_socket(
            sock,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
        )

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """The one thing that HTTP libraries set on a context that they are given."""
        self._contexts = self.contexts.with_alpn(tuple(alpn_protocols))

    def load_cert_chain(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("load_cert_chain: this context's identity comes from its source")

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("load_verify_locations: this context's trust bundles come from its source")

    def _check_use(self, server_side: bool, session: ssl.SSLSession | None) -> None:
        if server_side != self.contexts.server_side:
            raise ValueError(
                f"wanted a {'server' if self.contexts.server_side else 'client'} connection of this context"
            )
        if session is not None:
            raise ValueError("session: a session of another generation must not be resumed")
