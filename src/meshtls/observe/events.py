"""One connection's result and the one list of its possible outcomes. Pure.

``Outcome`` is the reason in the access log, in a metric's label and in the JSON adapter's reply. ``outcome_of`` is the
only place that maps an exception to an Outcome.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import msgspec

from meshtls import errors
from meshtls.spiffeid import SpiffeId

__all__ = ["ConnectionResult", "Direction", "Outcome", "Phases", "Verdict", "outcome_of"]


class Direction(Enum):
    """Whether a connection came to an inbound or an outbound listener."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Verdict(Enum):
    """The summary of an Outcome, one of three words."""

    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"


class Outcome(Enum):
    """How a connection ended; the value is what people read."""

    OK = "the connection was allowed and closed by both sides"
    POLICY_DENIED = "the identity in the peer's certificate is not allowed here"
    NO_CLIENT_CERTIFICATE = "the peer presented no certificate"
    PEER_CERT_INVALID = "the peer's certificate is no valid X509-SVID"
    PEER_CERT_NOT_CURRENT = "the peer's certificate is expired or not yet valid"
    PEER_UNTRUSTED = "the peer's certificate leads to no root of its trust domain's bundle"
    PEER_REVOKED = "the peer's certificate, or a CA certificate above it, was revoked"
    NO_BUNDLE = "no bundle is known for the peer's trust domain"
    PLAINTEXT_REFUSED = "the peer spoke plaintext where mutual TLS is required"
    HANDSHAKE_FAILED = "the TLS handshake failed"
    HANDSHAKE_TIMEOUT = "the TLS handshake was not finished in time"
    LOCAL_IDENTITY = "this sidecar has no valid SVID"
    CONNECT_FAILED = "the destination could not be reached"
    IDLE_TIMEOUT = "no byte moved for the idle timeout"
    CONNECTION_LIMIT = "too many connections were open"
    STREAM_REFUSED = "a stream of the tunnel was refused before it was looked at"
    RESET = "a side broke the connection off"
    DRAINED = "the sidecar was stopping and the drain deadline passed"
    INTERNAL_ERROR = "the sidecar itself failed"

    @property
    def allowed(self) -> bool:
        """Whether application bytes could flow before the end."""
        return self in (Outcome.OK, Outcome.IDLE_TIMEOUT, Outcome.RESET, Outcome.DRAINED)

    @property
    def verdict(self) -> Verdict:
        """The summary: the peer was allowed, was denied, or the connection failed for another reason."""
        if self.allowed:
            return Verdict.ALLOWED
        return Verdict.DENIED if self in _DENIALS else Verdict.FAILED


_DENIALS = frozenset(
    {
        Outcome.POLICY_DENIED,
        Outcome.NO_CLIENT_CERTIFICATE,
        Outcome.PEER_CERT_INVALID,
        Outcome.PEER_CERT_NOT_CURRENT,
        Outcome.PEER_UNTRUSTED,
        Outcome.PEER_REVOKED,
        Outcome.NO_BUNDLE,
        Outcome.PLAINTEXT_REFUSED,
    }
)

_BY_ERROR: dict[type[errors.MeshtlsError], Outcome] = {
    errors.NotAuthorizedError: Outcome.POLICY_DENIED,
    errors.NoCertificateError: Outcome.NO_CLIENT_CERTIFICATE,
    errors.InvalidSvidError: Outcome.PEER_CERT_INVALID,
    errors.ValidityError: Outcome.PEER_CERT_NOT_CURRENT,
    errors.UntrustedPeerError: Outcome.PEER_UNTRUSTED,
    errors.RevokedError: Outcome.PEER_REVOKED,
    errors.NoBundleError: Outcome.NO_BUNDLE,
    errors.PlaintextError: Outcome.PLAINTEXT_REFUSED,
    errors.HandshakeTimeoutError: Outcome.HANDSHAKE_TIMEOUT,
    errors.HandshakeError: Outcome.HANDSHAKE_FAILED,
    errors.LocalIdentityError: Outcome.LOCAL_IDENTITY,
}


def outcome_of(error: errors.MeshtlsError) -> Outcome:
    """The outcome of this error, by its most specific class. Raises LookupError if there is none."""
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind]
    raise LookupError(f"{type(error).__name__} has no Outcome") from error


class Phases(msgspec.Struct, frozen=True):
    """Milliseconds spent in each phase; None for a phase that the connection did not reach."""

    handshake_ms: float | None = None
    connect_ms: float | None = None
    total_ms: float = 0.0


class ConnectionResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one connection at its end.

    - ``detail``: the verifier's or the policy's message.
    - ``bytes_in``, ``bytes_out``: application bytes read from, and written to, the connection's initiator.
    - ``tunnel``: the connection is a stream of a tunnel; its handshake may belong to an earlier connection.
    - ``resumed``: its TLS resumed a session of an earlier connection.
    - ``traceparent``, ``baggage``, ``forwarded``: the origin that a tunnel's stream carries, printable ASCII. Inbound
      it is an unverified claim of the peer.
    """

    sidecar: str
    direction: Direction
    outcome: Outcome
    detail: str
    started: datetime
    remote: str
    source_id: SpiffeId | None = None
    destination_id: SpiffeId | None = None
    tls_version: str | None = None
    cipher_suite: str | None = None
    local_serial: str | None = None
    peer_serial: str | None = None
    generation: int | None = None
    tunnel: bool = False
    resumed: bool = False
    traceparent: str | None = None
    baggage: str | None = None
    forwarded: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    phases: Phases = Phases()
    admitted: bool = True

    @property
    def verdict(self) -> Verdict:
        """The outcome's, but FAILED for a connection that ended before it was admitted, such as by a drain."""
        verdict = self.outcome.verdict
        return verdict if self.admitted or verdict is not Verdict.ALLOWED else Verdict.FAILED
