"""The access log: one JSON line for each connection, all of it from its ConnectionResult.

On a denial the peer's ID is what its certificate says: it was turned away before it proved that it holds the key.
"""

from __future__ import annotations

from datetime import UTC
from typing import Protocol

import msgspec

from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.spiffeid import SpiffeId

__all__ = ["AccessLine", "AccessLog", "LineStream", "access_line"]


class AccessLine(msgspec.Struct, frozen=True, kw_only=True):
    """The line's fields, in the order of the line. ``time`` is when the connection was accepted, UTC."""

    time: str
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


class LineStream(Protocol):
    """What an AccessLog writes to: any text stream is one."""

    def write(self, text: str, /) -> object:
        """Take a line, its end included."""

    def flush(self) -> None:
        """Send it on."""


class AccessLog:
    """Call it with each ConnectionResult: it writes one line to ``stream`` and flushes."""

    def __init__(self, stream: LineStream) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder()

    def __call__(self, result: ConnectionResult) -> None:
        self._stream.write(self._encoder.encode(access_line(result)).decode() + "\n")
        self._stream.flush()


#: Asked of the enum each time, they are a fifth of the price of a line.
_WORDS = {outcome: (outcome.verdict.value, outcome.name, outcome.value) for outcome in Outcome}


def access_line(result: ConnectionResult) -> AccessLine:
    """The line for this result."""
    (verdict, name, reason), phases = _WORDS[result.outcome], result.phases
    return AccessLine(
        time=result.started.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        sidecar=result.sidecar,
        direction=result.direction.value,
        verdict=verdict,
        outcome=name,
        reason=reason,
        detail=result.detail,
        source_id=_text(result.source_id),
        destination_id=_text(result.destination_id),
        remote=result.remote,
        tls_version=result.tls_version,
        cipher_suite=result.cipher_suite,
        local_serial=result.local_serial,
        peer_serial=result.peer_serial,
        generation=result.generation,
        tunnel=result.tunnel,
        resumed=result.resumed,
        bytes_in=result.bytes_in,
        bytes_out=result.bytes_out,
        handshake_ms=_rounded(phases.handshake_ms),
        connect_ms=_rounded(phases.connect_ms),
        total_ms=round(phases.total_ms, 3),
    )


def _text(spiffe_id: SpiffeId | None) -> str | None:
    return None if spiffe_id is None else str(spiffe_id)


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
