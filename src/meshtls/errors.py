"""Every exception of meshtls: one small tree that says whose fault it is. Pure.

``ConfigError`` is the operator's, ``RequestError`` the caller's, ``LocalIdentityError`` ours, ``PeerError`` the peer's.
Each message says what was wanted, what came and what to do. What came may hold any character; the error's text is
printable all the same.
"""

from __future__ import annotations

from meshtls.printable import printable, printable_lines

__all__ = [
    "AccessError",
    "BundleError",
    "ConfigError",
    "ConflictError",
    "HandshakeError",
    "HandshakeTimeoutError",
    "IdentityWithdrawnError",
    "InvalidSpiffeIdError",
    "InvalidSvidError",
    "LocalIdentityError",
    "MeshtlsError",
    "NoBundleError",
    "NoCertificateError",
    "NotAuthorizedError",
    "NotFoundError",
    "OverloadError",
    "PeerError",
    "PlaintextError",
    "RequestError",
    "RevokedError",
    "StoreError",
    "UntrustedPeerError",
    "ValidityError",
]


class MeshtlsError(Exception):
    """Root of the tree: ``except MeshtlsError`` catches all that meshtls raises on purpose.

    Each argument is one line of its text, of printable characters, whatever a peer or a file had in the place that it
    quotes.
    """

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)


class ConfigError(MeshtlsError):
    """A file, a flag or a stored key that the operator has to mend. Each argument is a problem, or belongs to the one
    before it if it is indented; it may have several lines.
    """

    def __str__(self) -> str:
        return "\n".join(self.problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong, one or more."""
        found: list[str] = []
        for one in self.args:
            text = printable_lines(str(one))
            if found and text.startswith(" "):
                found[-1] += f"\n{text}"
            else:
                found.append(text)
        return tuple(found)


class RequestError(MeshtlsError, ValueError):
    """What a caller asked for can't be done as asked (a malformed CSR, an unknown service)."""


class InvalidSpiffeIdError(RequestError):
    """The text is no SPIFFE ID or trust domain name (SPIFFE-ID, sections 2 and 2.3)."""


class BundleError(RequestError):
    """The bytes are no SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4)."""


class NotFoundError(RequestError):
    """What a caller named is not there."""


class ConflictError(RequestError):
    """What a caller wants to make is there already, or was changed since the caller looked at it."""


class AccessError(MeshtlsError):
    """The caller is not who may ask for this: not attested, banned, or no administrator."""


class OverloadError(MeshtlsError):
    """The caller asks for more than its share: it may ask again later."""


class StoreError(MeshtlsError):
    """The server's data store can't be reached or can't write now; nothing of the change was kept."""


class LocalIdentityError(MeshtlsError):
    """This side has no usable SVID: none issued yet, expired, or the CA can't be reached."""


class IdentityWithdrawnError(LocalIdentityError):
    """The Workload API says that this process has no such identity any more (SPIFFE Workload API, section 5.2.1).

    Unlike an SVID that could not be renewed, one that was withdrawn is not used until its end.
    """


class PeerError(MeshtlsError):
    """The peer is refused. The subclasses say at which step."""


class HandshakeError(PeerError):
    """The TLS handshake did not complete: an alert, a timeout, or bytes that are no TLS."""


class HandshakeTimeoutError(HandshakeError):
    """The peer did not finish the handshake within the deadline."""


class NoCertificateError(HandshakeError):
    """The peer completed its part of the handshake without a certificate."""


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
    """The peer's certificate, or a CA certificate above it, was revoked by its issuer (RFC 5280, section 6.3)."""


class NotAuthorizedError(PeerError):
    """A peer with a good certificate that may not talk to this workload.

    ``peer`` is the VerifiedPeer, for the log. Where the refusal came within the handshake, the peer had shown the
    certificate and not yet that it holds the key.
    """

    def __init__(self, message: str, peer: object = None) -> None:
        super().__init__(message)
        self.peer = peer
