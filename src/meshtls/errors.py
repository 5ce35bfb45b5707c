"""The exceptions of meshtls, in a small tree by whose fault it is. Pure.

``ConfigError`` is the operator's fault, ``RequestError`` the caller's, ``LocalIdentityError`` ours, ``PeerError`` the
peer's. Each message says what was wanted, what came and what to do. It may quote any input, but its text is printable.
"""

from __future__ import annotations

from meshtls.lazy_text import LazyText
from meshtls.printable import printable, printable_lines

__all__ = [
    "AccessError",
    "AlertError",
    "BundleError",
    "ClosedEarlyError",
    "ConfigError",
    "ConflictError",
    "HandshakeError",
    "HandshakeTimeoutError",
    "IdentityWithdrawnError",
    "InvalidSpiffeIdError",
    "InvalidSvidError",
    "LocalIdentityError",
    "LogProofError",
    "MeshtlsError",
    "NoBundleError",
    "NoCertificateError",
    "NotAuthorizedError",
    "NotFoundError",
    "OverloadError",
    "PeerError",
    "PlaintextError",
    "RequestError",
    "RevocationUnknownError",
    "RevokedError",
    "StoreError",
    "TokenError",
    "UntrustedPeerError",
    "ValidityError",
]


class MeshtlsError(Exception):
    """The base class of all exceptions that meshtls raises on purpose.

    Each argument is one line of the text, and may be a LazyText. Characters that are not printable, in quoted input,
    are escaped.
    """

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)

    @property
    def words(self) -> str | LazyText:
        """The text, to be passed on: not made yet if it was given as a LazyText."""
        first = self.args[0] if len(self.args) == 1 else None
        return first if isinstance(first, LazyText) else str(self)


class ConfigError(MeshtlsError):
    """The operator has to correct a file, an option or a stored key.

    Each argument is a problem, which may have several lines, or a continuation of the one before if it is indented.
    """

    def __str__(self) -> str:
        return "\n".join(self.problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, one or more."""
        found: list[str] = []
        for one in self.args:
            text = printable_lines(str(one))
            if found and text.startswith(" "):
                found[-1] += f"\n{text}"
            else:
                found.append(text)
        return tuple(found)


class TokenError(ConfigError):
    """The PKCS#11 token with the CA's keys is gone, locked or refuses the PIN; a retry succeeds once it is back."""


class RequestError(MeshtlsError, ValueError):
    """The request is invalid, such as a malformed CSR or an unknown service."""


class InvalidSpiffeIdError(RequestError):
    """The text is not a SPIFFE ID or trust domain name (SPIFFE-ID, sections 2 and 2.3)."""


class BundleError(RequestError):
    """The bytes are not a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4)."""


class NotFoundError(RequestError):
    """The requested object does not exist."""


class ConflictError(RequestError):
    """The object exists already, or was changed since the caller read it."""


class AccessError(MeshtlsError):
    """Permission denied: the caller is not attested, is banned, or is not an administrator."""


class OverloadError(MeshtlsError):
    """The caller exceeds its limit, and may retry later."""


class StoreError(MeshtlsError):
    """The server's data store can't be reached or written at present. No part of the change was stored."""


class LogProofError(MeshtlsError):
    """A transparency log's proof or signature does not verify: the log was rewritten, has forked, or is another."""


class LocalIdentityError(MeshtlsError):
    """This side has no usable SVID: none issued yet, expired, or the CA can't be reached."""


class IdentityWithdrawnError(LocalIdentityError):
    """The Workload API has withdrawn the identity of this process (SPIFFE Workload API, section 5.2.1).

    A withdrawn SVID is not used any more, unlike one that could not be renewed, which is used until it expires.
    """


class PeerError(MeshtlsError):
    """The peer is refused. The subclasses say at which step."""


class HandshakeError(PeerError):
    """The TLS handshake did not complete: an alert, a timeout, or bytes that are not TLS."""


class AlertError(HandshakeError):
    """The peer ended TLS by an alert; ``alert`` is its name as RFC 8446, section 6 writes it, or empty."""

    def __init__(self, text: str, alert: str = "") -> None:
        super().__init__(text)
        self.alert = alert

    def __reduce__(self) -> tuple[type[AlertError], tuple[str, str]]:
        return type(self), (str(self), self.alert)


class ClosedEarlyError(HandshakeError):
    """A client closed the connection before its handshake was done, without an alert: a probe of the port, or a client
    that gave up. Neither side refused the other.
    """


class HandshakeTimeoutError(HandshakeError):
    """The peer did not finish the handshake within the deadline."""


class NoCertificateError(HandshakeError):
    """The peer presented no certificate."""


class PlaintextError(HandshakeError):
    """The peer spoke plaintext where mutual TLS is required."""


class InvalidSvidError(PeerError):
    """The peer's certificate breaks a rule of X509-SVID (sections 2 to 5)."""


class ValidityError(PeerError):
    """The peer's certificate is expired or not yet valid. The message shows both clocks."""


class NoBundleError(PeerError):
    """No bundle is known for the peer's trust domain."""


class UntrustedPeerError(PeerError):
    """No path from the peer's certificate to a root of its own trust domain's bundle."""


class RevokedError(PeerError):
    """The peer's certificate, a CA certificate above it, or its SPIFFE ID was revoked (RFC 5280, section 6.3)."""


class RevocationUnknownError(UntrustedPeerError):
    """The peer is refused because a CRL that has to be checked is missing, stale or unusable (RFC 5280, 6.3.3)."""


class NotAuthorizedError(PeerError):
    """The peer has a valid certificate but is not authorized to connect to this workload.

    ``peer`` is the VerifiedPeer, for the log. If it was refused during the handshake, it had presented the certificate
    but not yet proven possession of the key.
    """

    def __init__(self, message: str | LazyText, peer: object = None) -> None:
        super().__init__(message)
        self.peer = peer
