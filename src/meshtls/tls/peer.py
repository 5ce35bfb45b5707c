"""The certificates that a peer presented, as DER, leaf first. The one place that knows ``ssl``'s non-public parts."""

from __future__ import annotations

import ssl
from typing import Any

__all__ = ["leaf_of", "presented_chain", "set_context", "unguarded", "watch_messages"]


def presented_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """What the peer sent in this handshake; [] where it sent nothing, as on a resumed session."""
    # Public on the object itself from Python 3.13, and on its inner object before. A server's list has the leaf, too,
    # unlike that of OpenSSL's SSL_get_peer_cert_chain.
    inner: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[union-attr]
    if inner is None:
        return []
    # bytes from the public method; _ssl.Certificate from the inner one, whose public_bytes(2) is DER.
    return [one if isinstance(one, bytes) else one.public_bytes(2) for one in inner.get_unverified_chain() or ()]


def leaf_of(tls: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The DER of the peer's own certificate, on a resumed session too; b"" where it has none."""
    return tls.getpeercert(binary_form=True) or b""


def unguarded(tls: ssl.SSLObject) -> Any:
    """The inner object, whose ``read`` and ``write`` are C: for an accepted peer, two Python calls fewer per record."""
    return tls._sslobj  # type: ignore[attr-defined]


def set_context(tls: ssl.SSLSocket, context: ssl.SSLContext) -> bool:
    """Set the context for ``connect``; False if it is too late. The public setter works only once connected."""
    inner: Any = tls
    if inner._sslobj is not None:
        return False
    inner._context = context
    return True


def watch_messages(context: ssl.SSLContext, callback: Any) -> None:
    """Call ``callback(connection, direction, version, content_type, message_type, data)`` for each TLS message.

    This sets the callback of the C class: the Python one turns each argument into an enum, 5 µs a message.
    """
    # Not the class above ssl.SSLContext: if a library has replaced that by its own subclass (gevent does), the class
    # above is a Python one too, whose setter recurses for ever.
    hook = getattr(ssl.SSLContext.__mro__[-2], "_msg_callback", None)
    if hook is not None:
        hook.__set__(context, callback)
