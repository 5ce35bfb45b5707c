"""How many bytes of a stranger's handshake OpenSSL is shown.

OpenSSL decodes every certificate of a message before anybody may refuse it: 0.2 ms for the 120 bytes of the smallest
(OpenSSL 3.0), and it takes 100 KB of them. Almost every peer's part of a handshake is small. A large one is let
through, too, but once several of those have come to nothing the next are refused for a while: only whoever sends large
chains is in the way of whoever does. A peer that is accepted costs this budget nothing.
"""

from __future__ import annotations

from meshtls.clock import Clock

__all__ = ["LARGE_HANDSHAKE", "SERVER_HANDSHAKE", "SMALL_HANDSHAKE", "LargeHandshakes"]

#: Bytes of a client's part, which is a ClientHello of 0.3 to 1.7 KB, its chain and a signature.
SMALL_HANDSHAKE, LARGE_HANDSHAKE = 7 << 9, 16 << 10
#: Of a server's part, which may list the CAs that it takes; whom we dial is no stranger.
SERVER_HANDSHAKE = 64 << 10
_BURST = 32.0
_PER_SECOND = 2.0


class LargeHandshakes:
    """How many large handshakes may be under way or have failed: 32, and 2 more each second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left, self._since = _BURST, clock.monotonic()

    def take(self) -> bool:
        """Begin one; False where none is left."""
        now = self._clock.monotonic()
        self._left = min(_BURST, self._left + _PER_SECOND * (now - self._since))
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """One that was begun is accepted."""
        self._left = min(_BURST, self._left + 1)

    def __repr__(self) -> str:
        return f"<LargeHandshakes [{self._left:g} left]>"
