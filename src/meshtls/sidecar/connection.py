"""One connection's state while it lives, and the one place that turns it into a ConnectionResult."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from meshtls.clock import Clock
from meshtls.errors import MeshtlsError, NotAuthorizedError, PeerError
from meshtls.lazy_text import LazyText
from meshtls.logs import of_connection
from meshtls.observe.events import UNRULED, ConnectionResult, Direction, Outcome, Phases, Ruled, Security, TimedPhase
from meshtls.observe.handshakes import Handshake
from meshtls.observe.live import Admitted, Events, Live, PhaseEnded
from meshtls.policy.decision import Decision
from meshtls.policy.request import Request
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.states import CONNECTION, ConnectionState, ConnectionStep
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.engine import TlsEngine
from meshtls.tls.unproven import Stage, Unproven
from meshtls.wire.origin import NOWHERE, Origin
from meshtls.wire.tls import alert_name
from meshtls.wire.trace_context import SpanContext

__all__ = ["Connection", "Dialled", "EndedError", "Flow", "Parting", "TlsFacts", "host_of", "ruled_by"]


_numbers = count(1)

# Members that each stream of a tunnel needs: reading them from their enum takes longer (until Python 3.12).
_ADMIT, _RELAY = ConnectionStep.ADMIT, ConnectionStep.RELAY
_INBOUND, _MUTUAL_TLS = Direction.INBOUND, Security.MUTUAL_TLS
_PLAINTEXT_REFUSED, _HANDSHAKE_FAILED = Outcome.PLAINTEXT_REFUSED, Outcome.HANDSHAKE_FAILED


class Parting(NamedTuple):
    """A socket whose peer still has to read an alert, the reason for its refusal. ``unsent`` ends with that alert."""

    sock: socket.socket
    unsent: bytes = b""


class Dialled(NamedTuple):
    """A connection to a peer that is verified and authorized."""

    sock: socket.socket
    engine: TlsEngine
    peer: VerifiedPeer


class EndedError(MeshtlsError):
    """A connection ended for a reason other than the peer's identity; ``outcome`` says which.

    ``parting``: the peer is still to read an alert. ``alert``: the one by which the peer ended TLS, if it did.
    """

    def __init__(
        self, outcome: Outcome, detail: str | LazyText, parting: Parting | None = None, alert: str | None = None
    ) -> None:
        super().__init__(detail)
        self.alert = alert
        self.outcome = outcome
        self.parting = parting


@dataclass(slots=True)
class Flow:
    """Application bytes so far: ``bytes_in`` came from the connection's opener, ``bytes_out`` went to it."""

    bytes_in: int = 0
    bytes_out: int = 0


class _Phase:
    """A context manager. A class, because a generator with ``contextmanager`` costs four times as much."""

    __slots__ = ("_began", "_connection", "_name")

    def __init__(self, connection: Connection, name: TimedPhase) -> None:
        self._connection, self._name = connection, name
        self._began = connection.clock.monotonic()

    def __enter__(self) -> None:
        return

    def __exit__(self, *raised: object) -> None:
        self._connection.note_phase(self._name, self._began)


class TlsFacts(NamedTuple):
    """What a connection's result says of its TLS. The streams of a tunnel share one.

    ``connection_id`` is that of the connection with this TLS, and empty for TLS to a server outside of the mesh.
    """

    tls_version: str | None = None
    cipher_suite: str | None = None
    local_serial: str | None = None
    peer_serial: str | None = None
    generation: int | None = None
    resumed: bool = False
    connection_id: str = ""

    @classmethod
    def of(cls, engine: TlsEngine | None, peer: VerifiedPeer | None) -> TlsFacts:
        peer_serial = peer.serial if peer else None
        if engine is None:
            return cls(peer_serial=peer_serial)
        own = engine.snapshot
        return cls(
            engine.tls_version,
            engine.cipher_suite,
            own.svid.serial,
            peer_serial,
            own.generation,
            engine.resumed,
            _id_of(engine.client_random),
        )


_NO_FACTS = TlsFacts()
#: Bytes of an ID.
_ID_LENGTH = 8


def _id_of(client_random: bytes) -> str:
    return client_random[:_ID_LENGTH].hex()


@dataclass(slots=True, eq=False, repr=False, weakref_slot=True)
class Connection:
    """What is known so far. ``opener`` is the accepted socket; ``remote`` the address of the end that speaks TLS."""

    sidecar: str
    local_id: SpiffeId
    direction: Direction
    opener: socket.socket
    remote: str
    clock: Clock
    #: Changed by ``step``.
    state: ConnectionState = field(init=False, default=ConnectionState.ACCEPTED)
    flow: Flow = field(default_factory=Flow)
    dialled: socket.socket | None = None
    #: Sockets that are not closed at once: a reset would overtake the alert.
    partings: tuple[Parting, ...] = ()
    engine: TlsEngine | None = None
    peer: VerifiedPeer | None = None
    #: Outbound, the configured peer.
    expected_id: SpiffeId | None = None
    #: The trust by which the peer was verified most recently.
    trust: Trust | None = None
    #: Set once a third party (drain, a policy or trust change) has ended this connection.
    ended_by: EndedError | None = None
    #: Set by the task itself: a task that is cancelled before its first step would never report and close.
    task: asyncio.Task[Any] | None = None
    #: Ends a connection that has no task of its own: a stream of a tunnel.
    break_off: Callable[[EndedError], None] | None = None
    #: It is a stream of a tunnel, whose TLS these facts are of, and this is its number there.
    is_stream: bool = False
    stream_number: int = 0
    facts: TlsFacts | None = None
    #: The set that it is in until its peer has proven its identity.
    unproven: Unproven[Connection] | None = None
    #: Its listener's gate, which outlives reconfiguration.
    gate: Gate | None = None
    #: Its HTTP requests are judged one by one.
    reads_http: bool = False
    #: The CUSTOM policies whose providers allow it; None for a tunnel, whose streams are asked for one by one.
    allowed_by: frozenset[tuple[str, str]] | None = frozenset()
    #: Judges what passes it unread, after HTTP: None as long as there is nothing.
    opaque: Callable[[], Decision] | None = None
    #: What policies said of it most recently, and what dry-run policies would have said. None where there is nothing
    #: to say: it is allowed, and by no policy.
    decision: Decision | None = None
    shadow: tuple[Decision, ...] = ()
    #: It was allowed, whatever came then.
    admitted: bool = False
    #: Whether the TLS by which it was admitted resumed a session; None before, and where it was admitted as a stream of
    #: a tunnel. One that dialled a tunnel becomes a stream of it afterwards.
    resumed: bool | None = None
    #: It counts against the limit of connections.
    counted: bool = False
    #: It is a tunnel, whose streams are reported one by one; it is reported itself only if its outcome is not allowed.
    is_tunnel: bool = False
    #: The opener's bytes to resend after a refused stream, and the number of refusals.
    replay: bytes = b""
    refusals: int = 0
    #: The origin in its CONNECT: ours on an outbound connection, the peer's claim on an inbound one.
    origin: Origin = NOWHERE
    #: The context of its span, once it is needed, where connections are traced.
    trace: SpanContext | None = None
    #: Alerts that its TLS does not know of: sent without TLS, and received after the handshake.
    alert_sent: str | None = None
    alert_received: str | None = None
    #: Told of its phases.
    events: Events | None = None
    number: int = field(init=False, default_factory=_numbers.__next__)
    started: datetime = field(init=False)
    _began: float = field(init=False)
    #: The name and the milliseconds of each phase that is over.
    timed: list[tuple[TimedPhase, float]] = field(init=False, default_factory=list)
    #: Its end was reported.
    reported: bool = field(init=False, default=False)
    _registered: tuple[Gate, Request] | None = field(init=False, default=None)
    _own_id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self._began = self.clock.monotonic()

    def step(self, step: ConnectionStep) -> None:
        """Raises KeyError where the state has no such step."""
        self.state = CONNECTION[self.state][step]
        # A stream of a tunnel that we dialled is not admitted by itself.
        if (step is _ADMIT or step is _RELAY) and not self.admitted:
            self.admitted = True
            if not self.is_stream:
                self.resumed = self._has_resumed()
            if self.events is not None and self.events.observed:
                self.events.tell(self.admission(), self.sidecar)

    def part(self, sock: socket.socket) -> None:
        """Keep ``sock``, whose peer is refused: it stays open until the peer has read the alert that says why."""
        self.partings += (Parting(sock),)
        self.step(ConnectionStep.PART)

    def start_handshake(self, engine: TlsEngine) -> None:
        """This engine's handshake is about to begin."""
        self.engine = engine
        if self.events is not None and self.events.handshakes is not None:
            engine.transcript = self.events.handshakes.begin(self.direction, self.clock.monotonic())

    def end_handshake(self, *, finished: bool) -> None:
        """The handshake is over; ``finished`` if it ended well."""
        engine, handshakes = self.engine, self.events.handshakes if self.events is not None else None
        if handshakes is None or engine is None or engine.transcript is None:
            return
        if engine.transcript.messages:
            handshakes.end(Handshake(self.connection_id, self.direction, self.clock.now(), finished, engine.transcript))
        engine.transcript = None

    def reach(self, stage: Stage) -> None:
        """The handshake is at this stage."""
        if self.unproven is not None:
            self.unproven.reach(self, stage)

    def phase(self, name: TimedPhase) -> _Phase:
        """Time a phase, also one that fails."""
        return _Phase(self, name)

    def note_phase(self, name: TimedPhase, began: float) -> None:
        """Note a phase that began at ``began``, by ``clock.monotonic``, and ends now."""
        ms = (self.clock.monotonic() - began) * 1000
        self.timed.append((name, ms))
        if self.events is not None and self.events.observed:
            self.events.tell(PhaseEnded(self.number, name, ms), self.sidecar)

    def take_replay(self) -> bytes:
        """The opener's bytes to send once more, which then count again."""
        replay, self.replay = self.replay, b""
        self.flow.bytes_in -= len(replay)
        return replay

    def admit(self, gate: Gate, request: Request, trust: Trust | None = None) -> None:
        """Register the request and only then judge it, so that no change of policy or trust slips in between.

        ``request.peer`` was verified by ``trust``. Raises PeerError: NotAuthorizedError by the policy, or what
        ``check_trust`` raises if the trust has changed since the handshake.
        """
        self.peer, self.trust = request.peer, trust
        self._registered = (gate, request)
        refusal = self._recheck_trust() or self.recheck_policy()
        if refusal is not None:
            raise refusal
        self.step(_ADMIT)

    def admit_stream_of(self, tunnel: Connection) -> None:
        """Admit this stream of an admitted tunnel: the request and the trust are the tunnel's. Raises PeerError."""
        assert tunnel._registered is not None  # noqa: S101  # a tunnel is served once it is admitted
        self.admit(*tunnel._registered, tunnel.trust)

    def recheck(self) -> PeerError | None:
        """Check it again by the newest trust, and judge it by the present policy; None where it may go on."""
        return self._recheck_trust() or self.recheck_policy()

    def recheck_policy(self) -> NotAuthorizedError | None:
        """Judge it again; None where it is allowed, and where it has not been judged yet."""
        if self._registered is None:
            return None
        gate, request = self._registered
        with of_connection(self):
            decision = gate.judge(request, reads_http=self.reads_http, allowed_by=self.allowed_by)
        if decision.allowed and self.opaque is not None:
            decision = self.opaque()
        if not self.reads_http:
            self.shadow = gate.shadow(request) if gate.rules is not None else ()
        said = not decision.allowed or decision.policy is not None or self.shadow
        self.decision = decision if said else None  # nobody reads it, and it needs 400 bytes
        return None if decision.allowed else NotAuthorizedError(decision.words, request.peer)

    @property
    def request(self) -> Request:
        """What was admitted."""
        assert self._registered is not None  # noqa: S101  # asked for once it is admitted
        return self._registered[1]

    @property
    def trusted_peer(self) -> VerifiedPeer | None:
        """The peer that this connection goes on trusting; None for plaintext, and before it is admitted."""
        # A stream of a tunnel that we dialled is not admitted by itself: the tunnel's peer was, when it was dialled.
        return self.peer if self._registered is not None or self.is_stream else None

    def _recheck_trust(self) -> PeerError | None:
        gate = self._registered[0] if self._registered is not None else self.gate
        verifier = gate.verifier.newest if gate is not None else None
        if verifier is None or self.trust is verifier.trust:
            return None
        peer = self.trusted_peer
        if peer is None:
            return None
        refusal = verifier.distrust(peer)
        if refusal is None:
            self.trust = verifier.trust
        return refusal

    def end(self, outcome: Outcome, detail: str | LazyText) -> bool:
        """End it from outside, in any phase. False if it was ended before; the first outcome counts."""
        if self.ended_by is not None:
            return False
        self.ended_by = EndedError(outcome, detail)
        if self.task is not None:
            self.task.cancel()
        elif self.break_off is not None:
            self.break_off(self.ended_by)
        return True

    @property
    def connection_id(self) -> str:
        """The same on both sides of a connection with TLS: the first bytes of the ClientHello's random, and for a
        stream of a tunnel also its number. Only before there is TLS, and where there is none, it is our own.

        It identifies nobody: the client chooses it, and it is visible on the wire.
        """
        if self.is_stream and self.facts is not None and self.facts.connection_id:
            return f"{self.facts.connection_id}-{self.stream_number}"
        if self.engine is not None and (random := self.engine.client_random):
            return _id_of(random)
        if not self._own_id:
            self._own_id = os.urandom(_ID_LENGTH).hex()
        return self._own_id

    @property
    def shares_id(self) -> bool:
        """The peer knows its ID, too: a ClientHello was sent, or came."""
        return self.is_stream or (self.engine is not None and bool(self.engine.client_random))

    def live(self) -> Live:
        """What is known of it now."""
        return Live(
            number=self.number,
            sidecar=self.sidecar,
            direction=self.direction,
            started=self.started,
            remote=self.remote,
            local_id=self.local_id,
            peer_id=self.peer.spiffe_id if self.peer else None,
            tunnel=self.is_stream,
            bytes_in=self.flow.bytes_in,
            bytes_out=self.flow.bytes_out,
            phases=self._timings(),
            connection_id=self.connection_id,
            state=self.state.name.lower(),
        )

    def admission(self) -> Admitted:
        """How it was admitted, once it is."""
        return Admitted(
            self.number,
            self.direction,
            self.peer.spiffe_id if self.peer else None,
            self._security(self.facts or _NO_FACTS),
            self.is_stream,
            self.is_tunnel,
            self._has_resumed(),
        )

    def _has_resumed(self) -> bool:
        if self.facts is not None:
            return self.facts.resumed
        return self.engine is not None and self.engine.resumed

    def _security(self, facts: TlsFacts, outcome: Outcome | None = None) -> Security | None:
        """As far as it was seen: a handshake that was begun, or that the peer refused, made no connection secure."""
        if self.is_stream:
            return _MUTUAL_TLS
        if outcome is _PLAINTEXT_REFUSED:
            return Security.PLAINTEXT
        if self.engine is not None:
            # It is registered once its handshake is over and the peer has proven its identity.
            return None if self._registered is None or outcome is _HANDSHAKE_FAILED else _MUTUAL_TLS
        if facts.tls_version is not None:
            return Security.TLS
        return None if self._registered is None else Security.PLAINTEXT

    def _timings(self) -> Phases:
        sums: dict[TimedPhase, float] = {}
        for name, ms in self.timed:
            sums[name] = sums.get(name, 0.0) + ms
        return Phases(
            handshake_ms=sums.get("handshake"),
            connect_ms=sums.get("connect"),
            total_ms=(self.clock.monotonic() - self._began) * 1000,
            detect_ms=sums.get("detect"),
        )

    def result(self, outcome: Outcome, detail: str | LazyText) -> ConnectionResult:
        """Everything that is known, with this ending."""
        facts = self.facts or TlsFacts.of(self.engine, self.peer)
        peer_id = self.peer.spiffe_id if self.peer else None
        inbound = self.direction is _INBOUND
        decision, origin = self.decision, self.origin
        sent, received = self.alert_sent, self.alert_received
        if self.engine is not None:
            sent, received = self._alerts(self.engine)
        # Positional: msgspec takes eight times as long for this many keywords.
        return ConnectionResult(
            self.sidecar,
            self.direction,
            outcome,
            detail,
            self.started,
            self.remote,
            peer_id if inbound else self.local_id,
            self.local_id if inbound else peer_id,
            facts.tls_version,
            facts.cipher_suite,
            facts.local_serial,
            facts.peer_serial,
            facts.generation,
            self.is_stream,
            facts.resumed,
            origin.traceparent.decode("ascii") or None,
            origin.baggage.decode("ascii") or None,
            origin.forwarded.decode("ascii") or None,
            self.flow.bytes_in,
            self.flow.bytes_out,
            self._timings(),
            self.admitted,
            self._registered[1].port if self._registered else None,
            self._security(facts, outcome),
            ruled_by(decision, self.shadow) if decision is not None else UNRULED,
            self.connection_id,
            sent,
            received,
            self.expected_id,
        )

    def _alerts(self, engine: TlsEngine) -> tuple[str | None, str | None]:
        """The names of the last ones that were sent and received."""
        sent, received = engine.alerts
        return (
            self.alert_sent or (None if sent is None else alert_name(sent)),
            self.alert_received or (None if received is None else alert_name(received)),
        )

    def __repr__(self) -> str:
        return f"<Connection {self.sidecar} {self.direction.value} {self.remote} [{self.state.name.lower()}]>"


def ruled_by(
    decision: Decision,
    shadow: tuple[Decision, ...] | Callable[[], tuple[Decision, ...]] = (),
    audit: tuple[str, ...] | Callable[[], tuple[str, ...]] = (),
) -> Ruled:
    """What an access log says of a decision. An authorizer's is without a policy, and has said all in words."""
    if decision.allowed and not (decision.policy or shadow or audit):
        return UNRULED
    clause = None if decision.allowed else partial(_clause_of, decision)
    texts = partial(_texts_of, shadow) if shadow else ()
    found = () if callable(shadow) else tuple((one.policy or "", one.rule or "", one.allowed) for one in shadow)
    return Ruled(decision.policy, decision.rule, clause, texts, audit, found)


def _clause_of(decision: Decision) -> str | None:
    clause, near = decision.clause, decision.nearest
    return f"nearest: {near}" if clause is None and near is not None else clause


def _texts_of(shadow: tuple[Decision, ...] | Callable[[], tuple[Decision, ...]]) -> tuple[str | LazyText, ...]:
    """What dry-run policies would say, in words: the verdict first."""
    return tuple(one.reason if one.allowed else one.words for one in (shadow() if callable(shadow) else shadow))


def host_of(remote: str) -> str:
    """The host of an address as text."""
    return remote.rpartition(":")[0].strip("[]")
