"""What happens to connections while they live, as one stream of values. Pure.

For whatever shows them: metrics, an admin page, a dashboard. A consumer that comes late asks for what lives now
(``Live``) before it takes its first event; the two agree, since both come from one thread.

There is no event for bytes, which would be one for each receive: ``Live`` has them as of when it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from meshtls.observe.events import ConnectionResult, Direction, Phases, RequestResult, Security, TimedPhase
from meshtls.observe.handshakes import Handshakes
from meshtls.spiffeid import SpiffeId
from meshtls.wire.trace_context import SpanContext

__all__ = ["Admitted", "Ended", "Event", "Events", "Live", "Observer", "Opened", "PhaseEnded", "RequestEnded"]


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, or one stream of a tunnel (``tunnel``), as of now.

    - ``number``: its own within the process; ``remote``: the address of the end that speaks TLS.
    - ``peer_id``: None until the peer is verified, and for plaintext.
    - ``bytes_in``, ``bytes_out``: application bytes from and to the connection's opener so far.
    - ``phases``: those that are over; ``total_ms`` is the time since it was opened.
    - ``connection_id``: before the handshake has begun, one of its own, and then that of the result.
    - ``state``: how far it is, as docs/reference/states.md has it.
    """

    number: int
    sidecar: str
    direction: Direction
    started: datetime
    remote: str
    local_id: SpiffeId
    peer_id: SpiffeId | None
    tunnel: bool
    bytes_in: int
    bytes_out: int
    phases: Phases
    connection_id: str = ""
    state: str = ""


class Opened(msgspec.Struct, frozen=True):
    """A connection was accepted, or a peer or an app opened a stream.

    ``live`` makes the connection's ``Live`` as of the call, for the few observers that show it.
    """

    number: int
    direction: Direction
    local_id: SpiffeId
    live: Callable[[], Live]


class Admitted(msgspec.Struct, frozen=True):
    """A connection or a stream was authorized: from now on application bytes may flow.

    - ``peer_id``: as ``Live``'s. ``security``: None for plaintext to a server that a DestinationRule names.
    - ``stream``: it is a stream of a tunnel. ``carries``: it is itself a tunnel, which has no bytes of its own.
    - ``resumed``: its TLS resumed a session of an earlier connection.
    """

    number: int
    direction: Direction
    peer_id: SpiffeId | None
    security: Security | None
    stream: bool
    carries: bool
    resumed: bool


class PhaseEnded(msgspec.Struct, frozen=True):
    """This phase of the connection is over, well or not, after ``ms`` milliseconds."""

    number: int
    phase: TimedPhase
    ms: float


class RequestEnded(msgspec.Struct, frozen=True):
    """An HTTP request on this connection was answered, or refused."""

    number: int
    result: RequestResult


class Ended(msgspec.Struct, frozen=True):
    """The last event of a connection. ``result`` is also that of a tunnel itself, which the access log leaves out:
    then it ``carries``. ``trace``: the context of its span, where one was needed before its end. ``shares_id``: the
    peer knows the connection's ID, too. ``timed``: the name and the milliseconds of each ``PhaseEnded``.
    ``resumed``: whether the TLS by which it was admitted resumed a session; None where it was not admitted, or as a
    stream of a tunnel. One that dialled a tunnel was admitted by its own TLS.
    """

    number: int
    result: ConnectionResult
    carries: bool = False
    trace: SpanContext | None = None
    shares_id: bool = False
    timed: Sequence[tuple[TimedPhase, float]] = ()
    resumed: bool | None = None


Event = Opened | Admitted | PhaseEnded | RequestEnded | Ended
Observer = Callable[[Event], None]


class Events(Protocol):
    """Where events go."""

    @property
    def observed(self) -> bool:
        """Somebody takes them: without, none has to be made."""

    @property
    def handshakes(self) -> Handshakes | None:
        """Where messages of handshakes are kept; None where nobody can ask for them."""

    def tell(self, event: Event, sidecar: str) -> None:
        """Give it to every observer. Never raises."""
