"""The certificates that a peer presented, as DER, leaf first. The one place that knows ``ssl``'s non-public parts."""

from __future__ import annotations

import ssl
from typing import Any

from meshtls.svid.presented import MAX_CHAIN

__all__ = ["certificates_of_message", "leaf_of", "presented_chain", "set_context", "unguarded", "watch_messages"]

HANDSHAKE_RECORD = 22
CERTIFICATE_MESSAGE = 11
_TLS13 = 0x0304


def presented_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """What the peer sent in this handshake; [] where it sent nothing, as on a resumed session."""
    # Public on the object itself from Python 3.13, and on its inner object before. There a server's list lacks nothing
    # either: it holds the leaf, unlike OpenSSL's own SSL_get_peer_cert_chain.
    inner: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[union-attr]
    if inner is None:
        return []
    return [_der(certificate) for certificate in inner.get_unverified_chain() or ()]


def leaf_of(tls: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The DER of the peer's own certificate, on a resumed session too; b"" where it has none."""
    return tls.getpeercert(binary_form=True) or b""


def unguarded(tls: ssl.SSLObject) -> Any:
    """The inner object, whose ``read`` and ``write`` are the C ones: for an accepted peer, two frames less a record."""
    return tls._sslobj  # type: ignore[attr-defined]


def set_context(tls: ssl.SSLSocket, context: ssl.SSLContext) -> bool:
    """Let ``connect`` begin with this context; False where it is too late. The public setter wants a connection."""
    inner: Any = tls
    if inner._sslobj is not None:
        return False
    inner._context = context
    return True


def _der(certificate: Any) -> bytes:
    # bytes from the public method; _ssl.Certificate from the inner one, whose public_bytes(2) is DER.
    return certificate if isinstance(certificate, bytes) else certificate.public_bytes(2)


def watch_messages(context: ssl.SSLContext, callback: Any) -> None:
    """Call ``callback(connection, direction, version, content_type, message_type, data)`` for each TLS message.

    This sets the callback of the C class: the Python one turns each argument into an enum, 5 µs a message.
    """
    # Not the class above ssl.SSLContext: that is a Python one, too, where a library put a subclass of its own in that
    # place (gevent does), and its setter then calls itself for ever.
    hook = getattr(ssl.SSLContext.__mro__[-2], "_msg_callback", None)
    if hook is not None:
        hook.__set__(context, callback)


def certificates_of_message(version: int, message: bytes) -> list[bytes]:
    """The DER certificates inside a Certificate handshake message, header included (RFC 8446 4.4.2, RFC 5246 7.4.2).

    Of more than MAX_CHAIN it gives the first MAX_CHAIN + 1, and looks no further. Raises ValueError where the lengths
    don't add up.
    """
    place = 4
    if version >= _TLS13:
        _, place = _vector(message, place, 1)  # certificate_request_context
    start, end = _vector(message, place, 3)
    if end != len(message):
        raise ValueError("bytes after the certificate list")
    chain: list[bytes] = []
    place = start
    while place < end and len(chain) <= MAX_CHAIN:
        start, place = _vector(message, place, 3)
        chain.append(message[start:place])
        if version >= _TLS13:
            _, place = _vector(message, place, 2)  # the entry's extensions
    if place > end:
        raise ValueError("a certificate is longer than the list")
    return chain


def _vector(data: bytes, place: int, length_bytes: int) -> tuple[int, int]:
    """Where the content of the vector at ``place`` starts and ends."""
    start = place + length_bytes
    end = start + int.from_bytes(data[place:start], "big")
    if len(data) < max(start, end):
        raise ValueError("a vector is longer than the message")
    return start, end
