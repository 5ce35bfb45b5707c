"""One connection's state while it lives, and the one place that turns it into a ConnectionResult."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshtls.clock import Clock
from meshtls.errors import MeshtlsError, NotAuthorizedError
from meshtls.observe.events import ConnectionResult, Direction, Outcome, Phases
from meshtls.policy.authorizer import Authorizer, Target
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.engine import TlsEngine

__all__ = ["Connection", "EndedError", "Flow"]


class EndedError(MeshtlsError):
    """A connection ended in a way that is no fault of a peer's identity; ``outcome`` says in which."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


@dataclass(slots=True)
class Flow:
    """Application bytes so far: ``bytes_in`` came from the connection's opener, ``bytes_out`` went to it."""

    bytes_in: int = 0
    bytes_out: int = 0


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
    #: The socket whose other end still has to read why it was refused.
    lingering: socket.socket | None = None
    engine: TlsEngine | None = None
    peer: VerifiedPeer | None = None
    #: Set once a third party (drain, a policy change) has ended this connection.
    ended_by: EndedError | None = None
    #: Set by the task itself: one that is cancelled before its first step would never report and close.
    task: asyncio.Task[Any] | None = None
    started: datetime = field(init=False)
    _began: float = field(init=False)
    _phases: dict[str, float] = field(init=False, default_factory=dict)
    _admitted: tuple[Authorizer, VerifiedPeer, Target] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.started = self.clock.now()
        self._began = self.clock.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, also one that fails: ``handshake`` or ``connect``."""
        began = self.clock.monotonic()
        try:
            yield
        finally:
            self._phases[name] = (self.clock.monotonic() - began) * 1000

    def admit(self, peer: VerifiedPeer, authorizer: Authorizer, target: Target) -> None:
        """Register the peer and only then authorize it, so that no policy change slips in between.

        Raises NotAuthorizedError.
        """
        self.peer = peer
        self._admitted = (authorizer, peer, target)
        refusal = self.recheck()
        if refusal:
            raise refusal

    def recheck(self) -> NotAuthorizedError | None:
        """Ask again whether the peer may be here. None also where nobody is admitted: too early, or plaintext."""
        if self._admitted is None:
            return None
        authorizer, peer, target = self._admitted
        decision = authorizer(peer, target)
        return None if decision else NotAuthorizedError(decision.reason)

    def end(self, outcome: Outcome, detail: str) -> bool:
        """End it from outside, whatever phase it is in. False where it was ended before: the first says how."""
        if self.ended_by is not None:
            return False
        self.ended_by = EndedError(outcome, detail)
        if self.task is not None:
            self.task.cancel()
        return True

    def result(self, outcome: Outcome, detail: str) -> ConnectionResult:
        """Everything that is known, with this ending."""
        engine, peer_id = self.engine, self.peer.spiffe_id if self.peer else None
        inbound = self.direction is Direction.INBOUND
        return ConnectionResult(
            sidecar=self.sidecar,
            direction=self.direction,
            outcome=outcome,
            detail=detail,
            started=self.started,
            remote=self.remote,
            source_id=peer_id if inbound else self.local_id,
            destination_id=self.local_id if inbound else peer_id,
            tls_version=engine.tls_version if engine else None,
            cipher_suite=engine.cipher_suite if engine else None,
            local_serial=engine.context.svid.serial if engine else None,
            peer_serial=self.peer.serial if self.peer else None,
            generation=engine.context.generation if engine else None,
            bytes_in=self.flow.bytes_in,
            bytes_out=self.flow.bytes_out,
            phases=Phases(
                handshake_ms=self._phases.get("handshake"),
                connect_ms=self._phases.get("connect"),
                total_ms=(self.clock.monotonic() - self._began) * 1000,
            ),
        )
