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
from meshtls.errors import MeshtlsError, NotAuthorizedError
from meshtls.observe.events import ConnectionResult, Direction, Outcome, Phases
from meshtls.observe.live import Events, Live, PhaseEnded
from meshtls.policy.request import Request
from meshtls.printable import printable
from meshtls.sidecar.gate import Gate
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.engine import TlsEngine
from meshtls.tls.unproven import Stage, Unproven
from meshtls.wire.origin import NOWHERE, Origin

__all__ = ["Connection", "Dialled", "EndedError", "Flow", "Parting", "TlsFacts", "host_of"]


_numbers = count(1)


class Parting(NamedTuple):
    """A socket whose other end still has to read why it was refused, by an alert. ``unsent`` ends with that alert."""

    sock: socket.socket
    unsent: bytes = b""


class Dialled(NamedTuple):
    """A connection to a peer that is verified and authorized."""

    sock: socket.socket
    engine: TlsEngine
    peer: VerifiedPeer


class EndedError(MeshtlsError):
    """A connection ended in a way that is no fault of a peer's identity; ``outcome`` says in which.

    ``parting``: an alert says it to the peer, too.
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
    """``with`` it. A class, for a generator with ``contextmanager`` costs four times as much."""

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
        own = engine.context
        return cls(
            engine.tls_version, engine.cipher_suite, own.svid.serial, peer_serial, own.generation, engine.resumed
        )


@dataclass(slots=True, eq=False)
class Connection:
    """What is known so far. ``opener`` is the accepted socket; ``remote`` the address of the end that speaks TLS."""

    sidecar: str
    local_id: SpiffeId
    direction: Direction
    opener: socket.socket
    remote: str
    clock: Clock
    flow: Flow = field(default_factory=Flow)
    dialled: socket.socket | None = None
    #: What is not closed at once: a reset would overtake the alert.
    partings: tuple[Parting, ...] = ()
    engine: TlsEngine | None = None
    peer: VerifiedPeer | None = None
    #: Set once a third party (drain, a policy change) has ended this connection.
    ended_by: EndedError | None = None
    #: Set by the task itself: one that is cancelled before its first step would never report and close.
    task: asyncio.Task[Any] | None = None
    #: What ends a connection that has no task of its own: a stream of a tunnel.
    break_off: Callable[[EndedError], None] | None = None
    #: It is a stream of a tunnel, whose TLS these facts are of.
    tunnel: bool = False
    facts: TlsFacts | None = None
    #: Where it is listed while its peer has proven nothing yet.
    unproven: Unproven[Connection] | None = None
    #: What it came through, also where that is configured anew.
    gate: Gate | None = None
    #: It counts against the limit of connections.
    counted: bool = False
    #: It is a tunnel itself, and its streams are reported one by one: only a refusal of all of it is worth a word.
    quiet: bool = False
    #: What a tunnel's peer refused unseen of the opener's bytes, to be sent first elsewhere, and how often that was.
    unsent: bytes = b""
    refusals: int = 0
    #: What its CONNECT says of where it comes from: ours where we call, and the peer's claim where we are called.
    origin: Origin = NOWHERE
    #: Who is told of its phases.
    events: Events | None = None
    number: int = field(init=False, default_factory=_numbers.__next__)
    started: datetime = field(init=False)
    _began: float = field(init=False)
    _phases: dict[str, float] = field(init=False, default_factory=dict)
    _admitted: tuple[Gate, Request] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self._began = self.clock.monotonic()

    def reach(self, stage: Stage) -> None:
        """The handshake is at this stage."""
        if self.unproven is not None:
            self.unproven.reach(self, stage)

    def phase(self, name: str) -> _Phase:
        """Time a phase, also one that fails: ``handshake`` or ``connect``."""
        return _Phase(self, name)

    def timed(self, name: str, began: float) -> None:
        """Note a phase that began at this time of the clock's and ends now."""
        ms = self._phases[name] = (self.clock.monotonic() - began) * 1000
        if self.events is not None and self.events.observed:
            self.events.tell(PhaseEnded(self.number, name, ms), self.sidecar)

    def admit(self, gate: Gate, peer: VerifiedPeer | None, port: int | None = None) -> None:
        """Register what is to be judged and only then judge it, so that no change of policy slips in between.

        ``peer`` is None for plaintext; ``port`` is the app's, where we are called. Raises NotAuthorizedError.
        """
        self.peer = peer
        source_ip = None if self.direction is Direction.OUTBOUND else host_of(self.remote)
        self._admitted = (gate, Request(peer, self.local_id, port, source_ip))
        refusal = self.recheck()
        if refusal:
            raise refusal

    def recheck(self) -> NotAuthorizedError | None:
        """Judge it again; None where it is allowed, and where it has not been judged yet."""
        if self._admitted is None:
            return None
        gate, request = self._admitted
        decision = gate.judge(request)
        return None if decision.allowed else NotAuthorizedError(decision.reason, request.peer)

    def end(self, outcome: Outcome, detail: str) -> bool:
        """End it from outside, whatever phase it is in. False where it was ended before: the first says how."""
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
            tunnel=self.tunnel,
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
            tunnel=self.tunnel,
            bytes_in=self.flow.bytes_in,
            bytes_out=self.flow.bytes_out,
            phases=self._timings(),
        )


def host_of(remote: str) -> str:
    """The host of an address as text."""
    return remote.rpartition(":")[0].strip("[]")


def _text(said: bytes) -> str | None:
    return said.decode("ascii") if said else None
