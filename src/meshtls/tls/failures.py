"""Converts OpenSSL's errors to ours, and ours to the form that users of an SSLContext expect: nothing outside ``tls/``
names ``ssl.SSLError``.
"""

from __future__ import annotations

import ssl

from meshtls.errors import (
    AlertError,
    HandshakeError,
    LocalIdentityError,
    NoCertificateError,
    PeerError,
    PlaintextError,
    UntrustedPeerError,
)

__all__ = ["CLOSED_IN_TLS", "NoIdentityError", "RefusedHandshake", "peer_error"]

#: The message where the peer gave up within the handshake, and nobody refused anything.
CLOSED_IN_TLS = "the peer closed the connection in the middle of TLS"

_AFTERWARDS = ": the peer gave up, or broke the protocol, after its handshake had begun"
_PLAINTEXT = {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"}
#: What newer OpenSSLs, such as 3.6, say of any record that is wrong, once a handshake has begun.
_ANY_RECORD = "RECORD_LAYER_FAILURE"
_VERSION = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW"}


class RefusedHandshake(ssl.SSLCertVerificationError):
    """Our refusal in the form that users of an SSLContext expect; ``error`` is the PeerError with the reason."""

    def __init__(self, error: PeerError) -> None:
        super().__init__(1, str(error))
        self.reason = "CERTIFICATE_VERIFY_FAILED"
        self.verify_message = str(error)
        self.error = error

    def __reduce__(self) -> tuple[type[RefusedHandshake], tuple[PeerError]]:
        return type(self), (self.error,)  # an OSError's own would give ``args`` to a constructor that takes one error


class NoIdentityError(LocalIdentityError, ssl.SSLError):
    """Our own fault, and the end of a handshake: both kinds of ``except`` catch it."""

    def __init__(self, error: LocalIdentityError) -> None:
        super().__init__(1, str(error))
        self.args = (str(error),)  # the arguments of our errors are the lines of their text
        self.library, self.reason = "meshtls", "NO_IDENTITY"  # ssl sets both on its own, and its users read them
        self._error = error

    def __reduce__(self) -> tuple[type[NoIdentityError], tuple[LocalIdentityError]]:
        return type(self), (self._error,)  # an OSError's own would give ``args`` to a constructor that takes one error


def peer_error(error: ssl.SSLError, *, begun: bool = False) -> PeerError:
    """The PeerError that this failure of a TLS operation stands for.

    ``begun``: a handshake message of the peer was read before, so that it speaks TLS, whatever came next. A peer that
    gives up within the handshake sends an alert that is not encrypted, which OpenSSL refuses by its version.
    """
    if isinstance(error, RefusedHandshake):
        return error.error
    if isinstance(error, ssl.SSLCertVerificationError):
        return UntrustedPeerError(f"OpenSSL refused the peer's certificate: {error.verify_message}")
    reason = error.reason or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return NoCertificateError("the peer presented no certificate; mutual TLS wants an X509-SVID from both sides")
    if begun and (reason in _PLAINTEXT or reason == _ANY_RECORD):
        return HandshakeError(f"TLS failed: {_words(reason)}{_AFTERWARDS}")
    if reason in _PLAINTEXT:
        return PlaintextError("the peer's first bytes are not TLS; mutual TLS is required here")
    if reason in _VERSION:
        return HandshakeError(f"no TLS version in common with the peer ({_words(reason)})")
    if "_ALERT_" in reason:
        alert = _words(reason.split("_ALERT_")[1])
        return AlertError(f"the peer refused the connection with the alert {alert!r}", alert.replace(" ", "_"))
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return HandshakeError(CLOSED_IN_TLS)
    return HandshakeError(f"TLS failed: {_words(reason) or error}")


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()
