"""The access log: one JSON line for each connection, all of it from its ConnectionResult, and one for each HTTP request
that a policy judged, from its RequestResult. A request's line has ``method``, and a connection's has none.

The detail may quote the peer; like the rest of the line it has printable characters only.

On a denial the peer's ID is the one in its certificate: it was refused before it proved possession of the key.

Anyone can cause lines of inbound connections and requests that were not let in, so these have a rate: a flood fills no
disk. What is left out is counted in the program's own log (``CountedLog``). The same rate holds for the reasons of what
dry-run policies deny, in lines of what was let in: above it, such a line has the verdict alone. Nothing is put into
words that is not written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import msgspec

from meshtls.counted_log import LineRate
from meshtls.logs import logger
from meshtls.observe.events import (
    PLAINTEXT_DENIED,
    UNRULED,
    ConnectionResult,
    Direction,
    Outcome,
    RequestContext,
    RequestResult,
    Security,
    Verdict,
)
from meshtls.observe.request_line import RequestLines, set_fields
from meshtls.printable import printable_json

__all__ = ["REFUSALS_PER_SECOND", "AccessLine", "AccessLog", "LineStream", "access_line"]

log = logger("meshtls.sidecar")

#: Lines of inbound connections that were not let in, per second; ten times as many at once.
REFUSALS_PER_SECOND = 100.0
#: Lines of requests that are written together, at most, and for how long the first of them waits.
_MOST_PENDING, _PENDING_SECONDS = 256, 0.05


class AccessLine(msgspec.Struct, frozen=True):
    """The line's fields, in the order of the line. ``time`` is when the connection was accepted, UTC."""

    time: datetime
    sidecar: str
    direction: str
    verdict: str
    outcome: str
    reason: str
    detail: str
    source_id: str | None
    destination_id: str | None
    remote: str
    tls_version: str | None
    cipher_suite: str | None
    local_serial: str | None
    peer_serial: str | None
    generation: int | None
    tunnel: bool
    resumed: bool
    bytes_in: int
    bytes_out: int
    handshake_ms: float | None
    connect_ms: float | None
    total_ms: float
    traceparent: str | None
    baggage: str | None
    forwarded: str | None
    detect_ms: float | msgspec.UnsetType = msgspec.UNSET
    port: int | msgspec.UnsetType = msgspec.UNSET
    security: str | msgspec.UnsetType = msgspec.UNSET
    policy: str | msgspec.UnsetType = msgspec.UNSET
    rule: str | msgspec.UnsetType = msgspec.UNSET
    clause: str | msgspec.UnsetType = msgspec.UNSET
    shadow: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    connection_id: str | msgspec.UnsetType = msgspec.UNSET
    alert_sent: str | msgspec.UnsetType = msgspec.UNSET
    alert_received: str | msgspec.UnsetType = msgspec.UNSET


class LineStream(Protocol):
    """The output of an AccessLog; any text stream will do."""

    def write(self, text: str, /) -> object:
        """Write a line, with its line feed."""

    def flush(self) -> None:
        """Flush the line."""


class AccessLog:
    """Called with each ConnectionResult: writes one line to ``stream`` and flushes. ``request`` is called with each
    RequestResult; where an event loop runs, its lines are written together, a moment later, in one system call.

    ``now`` gives the seconds of a monotonic clock.
    """

    def __init__(self, stream: LineStream, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder()
        self._requests = RequestLines()
        self._refusals = LineRate(log, REFUSALS_PER_SECOND, now)
        self._shadows = LineRate(log, REFUSALS_PER_SECOND, now)
        #: Lines that are to be written together.
        self._pending: list[str] = []

    def __call__(self, result: ConnectionResult) -> None:
        ruled = result.ruled
        if result.verdict is not _ALLOWED and result.direction is _INBOUND:
            if not self._may_refuse(result.sidecar):
                return
        elif self._refusals.left_out or self._shadows.left_out:
            self._tell_left_out()
        explains = ruled is UNRULED or not ruled.would_explain or self._may_explain(result)
        line = self._encoder.encode(access_line(result, explains)).decode()
        self._pending.append(printable_json(line) + "\n")
        self.flush()

    def request(self, result: RequestResult) -> None:
        context, pending = result.context, self._pending
        if context.outcome is not _OK and context.outcome.verdict is not Verdict.ALLOWED:
            if not self._may_refuse(context.sidecar):
                return
        elif not pending:
            self._tell_left_out()
        pending.append(self._requests.line(result, self._may_explain))
        if len(pending) >= _MOST_PENDING:
            self.flush()
        elif len(pending) == 1:
            try:
                asyncio.get_running_loop().call_later(_PENDING_SECONDS, self.flush)
            except RuntimeError:
                self.flush()

    @property
    def left_out(self) -> int:
        """How many lines of connections and requests that were not let in were left out."""
        return self._refusals.left_out

    def flush(self) -> None:
        """Write what is pending."""
        if self._pending:
            lines, self._pending = self._pending, []
            self._stream.write("".join(lines))
            self._stream.flush()

    def _tell_left_out(self) -> None:
        self._refusals.flush()
        self._shadows.flush()

    def _may_refuse(self, sidecar: str) -> bool:
        """Whether a line of a connection or a request that was not let in may be written."""
        return self._refusals.allows(sidecar, f"sidecar {sidecar}: access log: a line of a refused inbound connection")

    def _may_explain(self, of: ConnectionResult | RequestContext) -> bool:
        """Whether its line may have the reasons of what dry-run policies would deny."""
        sidecar = of.sidecar
        return self._shadows.allows(sidecar, f"sidecar {sidecar}: access log: the reason of a dry-run denial")


_LONGEST_CLAIM = 256
_UNSET = msgspec.UNSET
# Members that each line needs: reading them from their enum takes longer (until Python 3.12).
_INBOUND, _ALLOWED, _OK, _POLICY_DENIED = Direction.INBOUND, Verdict.ALLOWED, Outcome.OK, Outcome.POLICY_DENIED
_UNRULED_FIELDS = set_fields(UNRULED)


def access_line(result: ConnectionResult, explains: bool = True) -> AccessLine:
    """The line for this result. ``explains``: whether with the reasons of what dry-run policies would deny."""
    outcome, phases, ruled = result.outcome, result.phases, result.ruled
    reason = outcome._value_
    source, destination, security = result.source_id, result.destination_id, result.security
    handshake, connect, detect = phases.handshake_ms, phases.connect_ms, phases.detect_ms
    if outcome is _POLICY_DENIED and security is Security.PLAINTEXT:
        reason = PLAINTEXT_DENIED if result.direction is _INBOUND else reason
    policy, rule, clause, shadow = _UNRULED_FIELDS if ruled is UNRULED else set_fields(ruled, explains)
    # Positional: with this many keywords, Python and msgspec would spend more time on them than on everything else.
    # Likewise there are few calls, and ``value`` of an enum is two (until Python 3.12).
    return AccessLine(
        result.started,
        result.sidecar,
        result.direction._value_,
        result.verdict._value_,
        outcome._name_,
        reason,
        result.detail,
        None if source is None else str(source),
        None if destination is None else str(destination),
        result.remote,
        result.tls_version,
        result.cipher_suite,
        result.local_serial,
        result.peer_serial,
        result.generation,
        result.tunnel,
        result.resumed,
        result.bytes_in,
        result.bytes_out,
        None if handshake is None else round(handshake, 3),
        None if connect is None else round(connect, 3),
        round(phases.total_ms, 3),
        result.traceparent,
        None if result.baggage is None else _shortened(result.baggage),
        None if result.forwarded is None else _shortened(result.forwarded),
        _UNSET if detect is None else round(detect, 3),
        _UNSET if result.port is None else result.port,
        _UNSET if security is None else security._value_,
        policy,
        rule,
        clause,
        shadow,
        result.connection_id or _UNSET,
        _UNSET if result.alert_sent is None else result.alert_sent,
        _UNSET if result.alert_received is None else result.alert_received,
    )


def _shortened(claim: str) -> str:
    return claim if len(claim) <= _LONGEST_CLAIM else claim[:_LONGEST_CLAIM] + "..."
