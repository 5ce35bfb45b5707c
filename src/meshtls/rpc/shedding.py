"""The reasons for a listener's refusals: one enum for log lines and counters, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum

__all__ = ["Refusal", "Refusals"]


class Refusal(Enum):
    """The limit or deadline that a caller exceeded."""

    CONNECTIONS = "connection limit of the listener reached"
    CONNECTIONS_PER_CALLER = "connection limit of the caller reached"
    CONNECTION_RATE = "too many new connections"
    EVICTED = "connection evicted for a newer one"
    STREAMS_PER_CALLER = "stream limit of the caller reached"
    CALL_RATE = "too many calls"
    RESETS = "too many calls reset before they were answered"
    IDLE_FRAMES = "too many frames that advance no call"
    DISCARDED_DATA = "too much data for ended calls"
    HEADERS = "header block too long"
    MESSAGE = "message too long"
    MESSAGES_PER_CALLER = "too many bytes of messages at once"
    NOT_HTTP2 = "no HTTP/2"
    PROTOCOL = "violation of HTTP/2 or gRPC"
    TLS = "TLS handshake failed"
    HANDSHAKE_TIMEOUT = "handshake not finished in time"
    REQUEST_TIMEOUT = "request not finished in time"
    WRITE_TIMEOUT = "responses not read in time"
    IDLE_TIMEOUT = "connection idle"
    RESOURCES = "no descriptor or memory for a connection"
    GUESSES = "too many wrong join tokens"


class Refusals:
    """Counts refusals by listener and reason. ``hook`` is called with each, for a metric."""

    def __init__(self, hook: Callable[[str, Refusal], None] | None = None) -> None:
        self.counts: Counter[tuple[str, Refusal]] = Counter()
        self._hook = hook

    def count(self, listener: str, refusal: Refusal) -> None:
        self.counts[listener, refusal] += 1
        if self._hook is not None:
            self._hook(listener, refusal)

    def __repr__(self) -> str:
        said = ", ".join(f"{listener}: {refusal.name} {count}" for (listener, refusal), count in self.counts.items())
        return f"<Refusals [{said}]>"
