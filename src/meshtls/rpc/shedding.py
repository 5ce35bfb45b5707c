"""The reasons for a listener's refusals: one enum for log lines and counters, and the counts."""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from enum import Enum

__all__ = ["CountedLog", "Refusal", "Refusals"]

_SECONDS = 10.0
_MOST_KEYS = 1024


class Refusal(Enum):
    """The limit or deadline that a caller exceeded."""

    CONNECTIONS = "connection limit of the listener reached"
    CONNECTIONS_PER_CALLER = "connection limit of the caller reached"
    CONNECTION_RATE = "too many new connections"
    EVICTED = "connection evicted for another caller's"
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


class CountedLog:
    """Logs the first warning of each key at once, then at most one in ten seconds, with the number of suppressed ones.

    So the number of keys bounds the number of lines: no part of a key may be chosen by a stranger.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        #: By key: when its last line was written, the number of warnings suppressed since, and the newest of those.
        self._keys: OrderedDict[Hashable, tuple[float, int, str]] = OrderedDict()

    def warning(self, key: Hashable, message: str) -> None:
        written, left_out, _ = self._keys.get(key, (float("-inf"), 0, ""))
        if self._now() - written < _SECONDS:
            self._keys[key] = (written, left_out + 1, message)
            return
        self._write(key, message, left_out)
        while len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)

    def flush(self) -> None:
        """Log the suppressed warnings of each key whose ten seconds have passed."""
        now = self._now()
        for key, (written, left_out, message) in list(self._keys.items()):
            if now - written < _SECONDS:
                continue
            if left_out:
                self._write(key, message, left_out - 1)
            else:
                del self._keys[key]

    def _write(self, key: Hashable, message: str, left_out: int) -> None:
        self._keys[key] = (self._now(), 0, "")
        self._keys.move_to_end(key)
        self._log.warning("%s%s", message, f" ({left_out} more like it)" if left_out else "")
