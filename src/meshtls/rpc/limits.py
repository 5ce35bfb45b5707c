"""The bounds of a listener, as one frozen value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from meshtls.scalars import duration, whole_number
from meshtls.yaml_reader import Section

__all__ = ["DEFAULT_LIMITS", "Limits", "read_limits"]

_MOST_CONNECTIONS = 1_000_000
_MOST_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one listener takes, in all and from each caller: a uid, an address (IPv6: a /64), or a SPIFFE ID.

    Times are seconds, rates are per second; a caller may save up ten seconds of a rate.
    """

    connections: int = 2048
    connections_per_caller: int = 512
    connections_per_second: float = 200.0
    """New connections of one caller, each of which may cost a TLS handshake."""
    streams_per_connection: int = 100
    streams_per_caller: int = 1024
    calls_per_second: float | None = None
    """None for a listener whose callers are known: they share its time fairly, at whatever rate they call."""
    attestations_per_second: float = 50.0
    """Calls of one address on a server's attestation port."""
    resets_per_second: float = 20.0
    """RST_STREAM for a call that was not answered yet."""
    idle_frames_per_second: float = 100.0
    """Frames that bring a call no further: PING, SETTINGS, PRIORITY, tiny DATA, WINDOW_UPDATE beyond what we sent."""
    message_bytes: int = 1 << 20
    header_bytes: int = 1 << 14
    """One header block, compressed and uncompressed."""
    handshake_timeout: float = 10.0
    """For the TLS handshake, and again for HTTP/2's preface and SETTINGS."""
    request_timeout: float = 10.0
    """For a call's first message, for the rest of a message that has begun, and for each frame."""
    write_timeout: float = 30.0
    """For a caller that does not read what it was sent."""
    idle_timeout: float = 300.0
    """For a connection without calls."""
    call_timeout: float | None = None
    """For a whole call; None where calls may last."""

    @property
    def window(self) -> int:
        """Bytes that may arrive on a connection before anybody has asked for them."""
        return min(max(self.message_bytes, (1 << 16) - 1), 1 << 18)

    @property
    def bytes_per_caller(self) -> int:
        """Of messages that are being received."""
        return 4 * self.message_bytes

    @property
    def bytes_in_all(self) -> int:
        return 16 * self.message_bytes


DEFAULT_LIMITS = Limits()


def read_limits(section: Section | None, default: Limits) -> Limits:
    """``default`` with what this section says instead. Raises ConfigError with file, line and key."""
    if section is None:
        return default
    number, rate = whole_number(1, _MOST_CONNECTIONS), whole_number(1, _MOST_PER_SECOND)
    limits = replace(
        default,
        connections=section.optional("connections", number, default.connections),
        connections_per_caller=section.optional("connections_per_caller", number, default.connections_per_caller),
        streams_per_caller=section.optional("streams_per_caller", number, default.streams_per_caller),
        connections_per_second=section.optional("connections_per_second", rate, default.connections_per_second),
        attestations_per_second=section.optional("attestations_per_second", rate, default.attestations_per_second),
        resets_per_second=section.optional("resets_per_second", rate, default.resets_per_second),
        handshake_timeout=section.optional("handshake_timeout", _seconds, default.handshake_timeout),
        request_timeout=section.optional("request_timeout", _seconds, default.request_timeout),
        write_timeout=section.optional("write_timeout", _seconds, default.write_timeout),
        idle_timeout=section.optional("idle_timeout", _seconds, default.idle_timeout),
    )
    section.finish()
    return limits


def _seconds(text: str) -> float:
    return duration(text).total_seconds()
