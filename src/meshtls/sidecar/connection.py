"""One connection's state while it lives, and the one place that turns it into a ConnectionResult."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

from meshtls.clock import Clock
from meshtls.errors import MeshtlsError, NotAuthorizedError, PeerError
from meshtls.observe.events import ConnectionResult, Direction, Outcome, Phases
from meshtls.observe.live import Events, Live, PhaseEnded
from meshtls.policy.request import Request
from meshtls.printable import printable
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.states import CONNECTION, ConnectionState, ConnectionStep
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.engine import TlsEngine
from meshtls.tls.unproven import Stage, Unproven
from meshtls.wire.origin import NOWHERE, Origin

__all__ = ["Connection", "Dialled", "EndedError", "Flow", "Parting", "TlsFacts", "host_of"]


_numbers = count(1)


#: A stream of a tunnel that we dialled is not admitted by itself.
_ADMITS = frozenset({ConnectionStep.ADMIT, ConnectionStep.RELAY})


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

    ``parting``: the peer is still to read an alert.
    """

    def __init__(self, outcome: Outcome, detail: str, parting: Parting | None = None) -> None:
        super().__init__(detail)
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

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self._began = connection.clock.monotonic()

    def __enter__(self) -> None:
        return

    def __exit__(self, *raised: object) -> None:
        self._connection.timed(self._name, self._began)


class TlsFacts(NamedTuple):
    """What a connection's result says of its TLS. The streams of a tunnel share one."""

    tls_version: str | None = None
    cipher_suite: str | None = None
    local_serial: str | None = None
    peer_serial: str | None = None
    generation: int | None = None
    resumed: bool = False

    @classmethod
    def of(cls, engine: TlsEngine | None, peer: VerifiedPeer | None) -> TlsFacts:
        peer_serial = peer.serial if peer else None
        if engine is None:
            return cls(peer_serial=peer_serial)
        own = engine.snapshot
        return cls(
            engine.tls_version, engine.cipher_suite, own.svid.serial, peer_serial, own.generation, engine.resumed
        )


@dataclass(slots=True, eq=False, repr=False)
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
    #: The trust by which the peer was verified most recently.
    trust: Trust | None = None
    #: Set once a third party (drain, a policy or trust change) has ended this connection.
    ended_by: EndedError | None = None
    #: Set by the task itself: a task that is cancelled before its first step would never report and close.
    task: asyncio.Task[Any] | None = None
    #: Ends a connection that has no task of its own: a stream of a tunnel.
    break_off: Callable[[EndedError], None] | None = None
    #: It is a stream of a tunnel, whose TLS these facts are of.
    is_stream: bool = False
    facts: TlsFacts | None = None
    #: The set that it is in until its peer has proven its identity.
    unproven: Unproven[Connection] | None = None
    #: Its listener's gate, which outlives reconfiguration.
    gate: Gate | None = None
    #: It was allowed, whatever came then.
    admitted: bool = False
    #: It counts against the limit of connections.
    counted: bool = False
    #: It is a tunnel, whose streams are reported one by one; it is reported itself only if its outcome is not allowed.
    is_tunnel: bool = False
    #: The opener's bytes to resend after a refused stream, and the number of refusals.
    replay: bytes = b""
    refusals: int = 0
    #: The origin in its CONNECT: ours on an outbound connection, the peer's claim on an inbound one.
    origin: Origin = NOWHERE
    #: Told of its phases.
    events: Events | None = None
    number: int = field(init=False, default_factory=_numbers.__next__)
    started: datetime = field(init=False)
    _began: float = field(init=False)
    _phases: dict[str, float] = field(init=False, default_factory=dict)
    _registered: tuple[Gate, Request] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self._began = self.clock.monotonic()

    def step(self, step: ConnectionStep) -> None:
        """Raises KeyError where the state has no such step."""
        self.state = CONNECTION[self.state][step]
        if step in _ADMITS:
            self.admitted = True

    def part(self, sock: socket.socket) -> None:
        """It is refused: ``sock`` stays open until the peer has read the alert that says why."""
        self.partings += (Parting(sock),)
        self.step(ConnectionStep.PART)

    def reach(self, stage: Stage) -> None:
        """The handshake is at this stage."""
        if self.unproven is not None:
            self.unproven.reach(self, stage)

    def phase(self, name: str) -> _Phase:
        """Time a phase, also one that fails: ``handshake`` or ``connect``."""
        return _Phase(self, name)

    def timed(self, name: str, began: float) -> None:
        """Note a phase that began at ``began``, by ``clock.monotonic``, and ends now."""
        ms = self._phases[name] = (self.clock.monotonic() - began) * 1000
        if self.events is not None and self.events.observed:
            self.events.tell(PhaseEnded(self.number, name, ms), self.sidecar)

    def admit(self, gate: Gate, request: Request, trust: Trust | None = None) -> None:
        """Register the request and only then judge it, so that no change of policy or trust slips in between.

        ``request.peer`` was verified by ``trust``. Raises PeerError: NotAuthorizedError by the policy, or what
        ``check_trust`` raises if the trust has changed since the handshake.
        """
        self.peer, self.trust = request.peer, trust
        self._registered = (gate, request)
        refusal = self.recheck()
        if refusal:
            raise refusal
        self.step(ConnectionStep.ADMIT)

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
        decision = gate.judge(request)
        return None if decision.allowed else NotAuthorizedError(decision.reason, request.peer)

    @property
    def trusted_peer(self) -> VerifiedPeer | None:
        """The peer that this connection goes on trusting; None for plaintext, and before it is admitted."""
        # A stream of a tunnel that we dialled is not admitted by itself: the tunnel's peer was, when it was dialled.
        return self.peer if self._registered is not None or self.is_stream else None

    def _recheck_trust(self) -> PeerError | None:
        gate = self._registered[0] if self._registered is not None else self.gate
        peer, verifier = self.trusted_peer, gate.verifier.newest if gate is not None else None
        if peer is None or verifier is None or self.trust is verifier.trust:
            return None
        refusal = verifier.distrust(peer)
        if refusal is None:
            self.trust = verifier.trust
        return refusal

    def end(self, outcome: Outcome, detail: str) -> bool:
        """End it from outside, in any phase. False if it was ended before; the first outcome counts."""
        if self.ended_by is not None:
            return False
        self.ended_by = EndedError(outcome, detail)
        if self.task is not None:
            self.task.cancel()
        elif self.break_off is not None:
            self.break_off(self.ended_by)
        return True

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
        )

    def _timings(self) -> Phases:
        return Phases(
            handshake_ms=self._phases.get("handshake"),
            connect_ms=self._phases.get("connect"),
            total_ms=(self.clock.monotonic() - self._began) * 1000,
        )

    def result(self, outcome: Outcome, detail: str) -> ConnectionResult:
        """Everything that is known, with this ending."""
        facts = self.facts or TlsFacts.of(self.engine, self.peer)
        peer_id = self.peer.spiffe_id if self.peer else None
        inbound = self.direction is Direction.INBOUND
        return ConnectionResult(
            sidecar=self.sidecar,
            direction=self.direction,
            outcome=outcome,
            detail=printable(detail),
            started=self.started,
            remote=self.remote,
            source_id=peer_id if inbound else self.local_id,
            destination_id=self.local_id if inbound else peer_id,
            tls_version=facts.tls_version,
            cipher_suite=facts.cipher_suite,
            local_serial=facts.local_serial,
            peer_serial=facts.peer_serial,
            generation=facts.generation,
            resumed=facts.resumed,
            traceparent=_text(self.origin.traceparent),
            baggage=_text(self.origin.baggage),
            forwarded=_text(self.origin.forwarded),
            tunnel=self.is_stream,
            bytes_in=self.flow.bytes_in,
            bytes_out=self.flow.bytes_out,
            phases=self._timings(),
            admitted=self.admitted,
        )

    def __repr__(self) -> str:
        return f"<Connection {self.sidecar} {self.direction.value} {self.remote} [{self.state.name.lower()}]>"


def host_of(remote: str) -> str:
    """The host of an address as text."""
    return remote.rpartition(":")[0].strip("[]")


def _text(said: bytes) -> str | None:
    return said.decode("ascii") if said else None
