"""One connection's result and the one list of its possible outcomes. Pure.

``Outcome`` is the reason in the access log, in a metric's label and in the JSON adapter's reply. ``outcome_of`` is the
only place that maps an exception to an Outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Literal, NamedTuple

import msgspec

from meshtls import errors
from meshtls.lazy_text import LazyText
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId
from meshtls.wire.trace_context import SpanContext

__all__ = [
    "PLAINTEXT_DENIED",
    "UNRULED",
    "ConnectionResult",
    "Direction",
    "Outcome",
    "Phases",
    "RequestContext",
    "RequestResult",
    "RequestTrace",
    "Ruled",
    "Security",
    "TimedPhase",
    "Verdict",
    "outcome_of",
]


Texts = tuple[str | LazyText, ...]


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
    """How a connection, or an HTTP request, ended; the value is what people read of a connection.

    - ``verdict``: the summary: the peer was allowed, was denied, or the connection failed for another reason.
    - ``allowed``: whether application bytes could flow before the end.
    """

    _value_: str
    verdict: Verdict
    allowed: bool

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
    CLOSED_EARLY = "the client closed the connection before its handshake was done, without an alert"
    PROXY_HEADER_REFUSED = "the PROXY protocol header was missing, malformed or not from a trusted proxy"
    LOCAL_IDENTITY = "this sidecar has no valid SVID"
    CONNECT_FAILED = "the destination could not be reached"
    APP_FAILED = "the app broke off, or did not answer with HTTP"
    IDLE_TIMEOUT = "no byte moved for the idle timeout"
    CONNECTION_LIMIT = "too many connections were open"
    REQUEST_REFUSED = "the HTTP request breaks a rule of HTTP, or exceeds a limit"
    PATH_REFUSED = "the path of the HTTP request can't be compared with policies"
    TOKEN_REFUSED = "a token in the HTTP request was refused"  # noqa: S105  # no password
    STREAM_REFUSED = "a stream of the tunnel was refused before it was looked at"
    RESET = "a side broke the connection off"
    DRAINED = "the sidecar was stopping and the drain deadline passed"
    INTERNAL_ERROR = "the sidecar itself failed"

    @property
    def of_request(self) -> str:
        """What people read of an HTTP request."""
        return _OF_REQUESTS.get(self) or self._value_


_ALLOWED = frozenset({Outcome.OK, Outcome.IDLE_TIMEOUT, Outcome.RESET, Outcome.DRAINED})
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
        Outcome.PROXY_HEADER_REFUSED,
        Outcome.PATH_REFUSED,
        Outcome.TOKEN_REFUSED,
    }
)
for _outcome in Outcome:  # attributes and no properties, since each line of a log reads them
    _outcome.allowed = _outcome in _ALLOWED
    _outcome.verdict = Verdict.ALLOWED if _outcome.allowed else Verdict.FAILED
    if _outcome in _DENIALS:
        _outcome.verdict = Verdict.DENIED

#: Of an inbound connection that is POLICY_DENIED and has no certificate.
PLAINTEXT_DENIED = "a caller in plaintext, which proves no identity, is not allowed here"
_OF_REQUESTS = {
    Outcome.OK: "the HTTP request was allowed, and the app answered it",
    Outcome.POLICY_DENIED: "the policies do not allow this HTTP request",
}

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
    errors.ClosedEarlyError: Outcome.CLOSED_EARLY,
    errors.HandshakeError: Outcome.HANDSHAKE_FAILED,
    errors.LocalIdentityError: Outcome.LOCAL_IDENTITY,
}


def outcome_of(error: errors.MeshtlsError) -> Outcome:
    """The outcome of this error, by its most specific class. Raises LookupError if there is none."""
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind]
    raise LookupError(f"{type(error).__name__} has no Outcome") from error


class Security(Enum):
    """How a connection, or the tunnel of a stream, came."""

    MUTUAL_TLS = "mutual_tls"
    TLS = "tls"
    """To a server outside of the mesh, as a DestinationRule says (SIMPLE, MUTUAL)."""
    PLAINTEXT = "plaintext"


class Ruled:
    """What policies said: the policy, its rule and the clause that decided. ``shadow`` is what those with
    ``istio.io/dry-run`` would have said, and ``audit`` the AUDIT rules that match; on HTTP requests only.

    The last three may be given as functions, which are called when the value is first read: to find a clause takes far
    longer than to decide.

    ``dry_run``: policy, rule, and whether it would allow, of each verdict in ``shadow`` that is found already.
    """

    __slots__ = ("_audit", "_clause", "_shadow", "dry_run", "policy", "rule")

    def __init__(
        self,
        policy: str | None = None,
        rule: str | None = None,
        clause: str | Callable[[], str | None] | None = None,
        shadow: Texts | Callable[[], Texts] = (),
        audit: tuple[str, ...] | Callable[[], tuple[str, ...]] = (),
        dry_run: tuple[tuple[str, str, bool], ...] = (),
    ) -> None:
        self.policy, self.rule, self.dry_run = policy, rule, dry_run
        self._clause, self._shadow, self._audit = clause, shadow, audit

    @property
    def clause(self) -> str | None:
        if callable(self._clause):
            self._clause = self._clause()
        return self._clause

    @property
    def shadow(self) -> tuple[str, ...]:
        return tuple(map(str, self._shadows()))

    @property
    def shadow_in_short(self) -> tuple[str, ...]:
        """The verdicts without their reasons, which take long to find."""
        return tuple(one.short if isinstance(one, LazyText) else one for one in self._shadows())

    @property
    def would_explain(self) -> bool:
        """Whether there is a reason in ``shadow`` that is not a text yet."""
        return any(isinstance(one, LazyText) for one in self._shadows())

    @property
    def audit(self) -> tuple[str, ...]:
        if callable(self._audit):
            self._audit = self._audit()
        return self._audit

    def _shadows(self) -> Texts:
        if callable(self._shadow):
            self._shadow = self._shadow()
        return self._shadow

    def __eq__(self, other: object) -> bool:
        return self._parts() == other._parts() if isinstance(other, Ruled) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return self.policy, self.rule, self.clause, self.shadow, self.audit

    def __repr__(self) -> str:
        return f"<Ruled by {self.policy}, rule {self.rule}>"


UNRULED = Ruled()


#: The phases of a connection that are timed. Literal, not an enum: the type checker knows each name, and a dictionary
#: by them is as fast as one by text.
TimedPhase = Literal["detect", "handshake", "connect"]


class Phases(msgspec.Struct, frozen=True):
    """Milliseconds spent in each phase; None for a phase that the connection did not reach.

    ``detect_ms``: how long the app had to wait because the client's first bytes show what it speaks (TLS or not, HTTP
    or not).
    """

    handshake_ms: float | None = None
    connect_ms: float | None = None
    total_ms: float = 0.0
    detect_ms: float | None = None


class ConnectionResult(msgspec.Struct, frozen=True):
    """The result of one connection at its end.

    - ``words``: ``detail``, which is the verifier's or the policy's message, perhaps not made yet.
    - ``bytes_in``, ``bytes_out``: application bytes read from, and written to, the connection's initiator.
    - ``tunnel``: the connection is a stream of a tunnel; its handshake may belong to an earlier connection.
    - ``resumed``: its TLS resumed a session of an earlier connection.
    - ``port``: of the app, where there is one. ``security``: None where nothing came that shows it.
    - ``expected_id``: outbound, the configured peer, whoever answered. None where none is configured.
    - ``ruled``: what the policies of an inbound listener said.
    - ``connection_id``: the same on both sides of a connection with TLS.
    - ``alert_sent``, ``alert_received``: the TLS alerts that ended it, by their names in RFC 8446, section 6.
    - ``traceparent``, ``baggage``, ``forwarded``: the origin that a tunnel's stream carries, printable ASCII. Inbound
      it is an unverified claim of the peer.
    """

    sidecar: str
    direction: Direction
    outcome: Outcome
    words: str | LazyText
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
    port: int | None = None
    security: Security | None = None
    ruled: Ruled = UNRULED
    connection_id: str = ""
    alert_sent: str | None = None
    alert_received: str | None = None
    expected_id: SpiffeId | None = None

    @property
    def detail(self) -> str:
        """What happened, in printable words."""
        return printable(str(self.words))

    @property
    def verdict(self) -> Verdict:
        """The outcome's, but FAILED for a connection that ended before it was admitted, such as by a drain."""
        verdict = self.outcome.verdict
        return verdict if self.admitted or verdict is not Verdict.ALLOWED else Verdict.FAILED


class RequestContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of a connection that end alike have in common: one value for all of them.

    - ``detail``: the policy's message, perhaps not made yet. ``source_id``: None for plaintext.
    - ``connection_id``: as in the connection's own result.
    """

    sidecar: str
    outcome: Outcome
    detail: str | LazyText
    remote: str
    source_id: SpiffeId | None
    destination_id: SpiffeId
    port: int | None
    security: Security
    tunnel: bool
    ruled: Ruled = UNRULED
    connection_id: str = ""


class RequestTrace(NamedTuple):
    """The spans of a request and of its connection, where requests are traced. ``grpc``: it is a call of gRPC."""

    span: SpanContext
    connection: SpanContext
    grpc: bool = False


class RequestResult(msgspec.Struct, frozen=True):
    """One HTTP request that a policy judged, at its end, or that was refused before as REQUEST_REFUSED.

    - ``path``: with the query, as the policy saw it; of a refused one what came, as far as it was read, as the method
      and the host. None of them is escaped. ``status``: of the answer; 0 where none came.
    - ``total_ms``: until the answer began. ``trace``: None where requests are not traced.
    """

    context: RequestContext
    started: datetime
    method: str
    host: str
    path: str
    status: int
    total_ms: float = 0.0
    trace: RequestTrace | None = None

    @property
    def outcome(self) -> Outcome:
        return self.context.outcome

    @property
    def detail(self) -> str:
        return str(self.context.detail)

    @property
    def ruled(self) -> Ruled:
        return self.context.ruled
