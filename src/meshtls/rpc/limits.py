"""The bounds of a listener, as one frozen value: the keys of a section ``limits``, and bounds that are not configured.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from meshtls.config.keys import SECONDS, Key, number, rate

__all__ = ["DEFAULT_LIMITS", "ListenerLimits"]

_CONNECTIONS = number(1, 1_000_000)
_RATE = rate(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """The limits of one listener, in total and per caller: a uid, an address (IPv6: a /64), or a SPIFFE ID.

    Times are seconds, rates are per second; a caller may accumulate ten seconds of a rate.
    """

    connections: Annotated[int, Key("Connections of a listener.", _CONNECTIONS)] = 2048
    connections_per_caller: Annotated[int, Key("Connections of one caller.", _CONNECTIONS)] = 512
    connections_per_second: Annotated[
        float, Key("New connections of one caller, each of which may cost a TLS handshake.", _RATE)
    ] = 200.0
    streams_per_connection: int = 100
    streams_per_caller: Annotated[int, Key("Calls of one caller that are open at once.", _CONNECTIONS)] = 1024
    calls_per_second: float | None = None
    """None for a listener whose callers are known: they share its time fairly, at whatever rate they call."""
    attestations_per_second: Annotated[
        float, Key("Calls of one address on a server's attestation port; an agent has none.", _RATE)
    ] = 50.0
    resets_per_second: Annotated[float, Key("Calls that one caller resets before they were answered.", _RATE)] = 20.0
    idle_frames_per_second: float = 100.0
    """Frames without progress of a call: PING, SETTINGS, PRIORITY, tiny DATA, WINDOW_UPDATE beyond what we sent."""
    message_bytes: int = 1 << 20
    header_bytes: int = 1 << 14
    """One header block, compressed and uncompressed."""
    handshake_timeout: Annotated[
        float, Key("For the TLS handshake, and again for HTTP/2's preface and SETTINGS.", SECONDS)
    ] = 10.0
    request_timeout: Annotated[
        float,
        Key("For a call's first message, for the rest of a message that has begun, and for each frame.", SECONDS),
    ] = 10.0
    write_timeout: Annotated[float, Key("For a caller that does not read what it was sent.", SECONDS)] = 30.0
    idle_timeout: Annotated[float, Key("For a connection without calls.", SECONDS)] = 300.0
    call_timeout: float | None = None
    """For a whole call; None for no deadline."""

    @property
    def window(self) -> int:
        """Bytes that may arrive on a connection before a call reads them."""
        return min(max(self.message_bytes, (1 << 16) - 1), 1 << 18)

    @property
    def bytes_per_caller(self) -> int:
        """The total size of one caller's messages that are being received."""
        return 4 * self.message_bytes

    @property
    def bytes_in_all(self) -> int:
        return 16 * self.message_bytes


DEFAULT_LIMITS = ListenerLimits()
