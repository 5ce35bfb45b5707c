"""The access log: one JSON line for each connection, all of it from its ConnectionResult.

The detail may quote the peer; like the rest of the line it has printable characters only.

On a denial the peer's ID is the one in its certificate: it was refused before it proved possession of the key.

Anyone can cause lines of inbound connections that were not let in, so these have a rate: a flood fills no disk. What is
left out is counted in the program's own log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import msgspec

from meshtls.budget import Budget
from meshtls.logs import logger
from meshtls.observe.events import ConnectionResult, Direction, Outcome, Verdict
from meshtls.printable import printable, printable_json
from meshtls.spiffeid import SpiffeId

__all__ = ["REFUSALS_PER_SECOND", "AccessLine", "AccessLog", "LineStream", "access_line"]


log = logger("meshtls.sidecar")

#: Lines of inbound connections that were not let in, per second; ten times as many at once.
REFUSALS_PER_SECOND = 100.0
_SECONDS = 10.0


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


class LineStream(Protocol):
    """The output of an AccessLog; any text stream will do."""

    def write(self, text: str, /) -> object:
        """Write a line, with its line feed."""

    def flush(self) -> None:
        """Flush the line."""


class AccessLog:
    """Called with each ConnectionResult: writes one line to ``stream`` and flushes.

    ``now`` gives the seconds of a monotonic clock.
    """

    def __init__(self, stream: LineStream, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder()
        self._now = now
        self._refusals = Budget(REFUSALS_PER_SECOND, now())
        self._left_out = 0
        self._told_at = float("-inf")

    def __call__(self, result: ConnectionResult) -> None:
        if self._left_out and self._now() - self._told_at >= _SECONDS:
            log.warning(
                "sidecar %s: access log: %d lines of refused inbound connections left out, above %g a second",
                result.sidecar,
                self._left_out,
                REFUSALS_PER_SECOND,
            )
            self._left_out, self._told_at = 0, self._now()
        refused = result.direction is Direction.INBOUND and result.verdict is not Verdict.ALLOWED
        if refused and not self._refusals.take(1, self._now()):
            self._left_out += 1
            return
        line = self._encoder.encode(access_line(result)).decode()
        self._stream.write(printable_json(line) + "\n")
        self._stream.flush()


_LONGEST_CLAIM = 256
#: Cached, since looking them up in the enum takes a fifth of the cost of a line.
_WORDS = {outcome: (outcome.name, outcome.value) for outcome in Outcome}
_VERDICTS = {verdict: verdict.value for verdict in Verdict}


def access_line(result: ConnectionResult) -> AccessLine:
    """The line for this result."""
    (name, reason), phases = _WORDS[result.outcome], result.phases
    # Positional: with this many keywords, Python and msgspec would spend more time on them than on everything else.
    return AccessLine(
        result.started,
        result.sidecar,
        result.direction.value,
        _VERDICTS[result.verdict],
        name,
        reason,
        printable(result.detail),
        _text(result.source_id),
        _text(result.destination_id),
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
        _rounded(phases.handshake_ms),
        _rounded(phases.connect_ms),
        round(phases.total_ms, 3),
        result.traceparent,
        _shortened(result.baggage),
        _shortened(result.forwarded),
    )


def _text(spiffe_id: SpiffeId | None) -> str | None:
    return None if spiffe_id is None else str(spiffe_id)


def _shortened(claim: str | None) -> str | None:
    return claim if claim is None or len(claim) <= _LONGEST_CLAIM else claim[:_LONGEST_CLAIM] + "..."


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
