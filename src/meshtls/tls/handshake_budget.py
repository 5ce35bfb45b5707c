"""Limits how many bytes of an unverified peer's handshake OpenSSL gets to decode.

OpenSSL decodes every certificate of a message before anything can refuse it: 0.2 ms for the 120 bytes of the smallest
(OpenSSL 3.0), and it takes 100 KB of them. Almost every peer's part of a handshake is small. A large one is read as
well, but once several large ones have failed, the next are refused for a while. A peer that is accepted uses up nothing
of this budget.

What is large depends on the mesh: RSA keys and many names make every chain long, and with a fixed size strangers
could use up the budget and keep out the mesh's own peers. So a part counts as small if it is no longer than our own
SVID would need, or than an accepted peer has needed. MOST_SMALL bounds that: one peer can't make the largest small.
"""

from __future__ import annotations

from meshtls.budget import Budget
from meshtls.clock import Clock

__all__ = ["LARGE_HANDSHAKE", "MOST_SMALL", "SERVER_HANDSHAKE", "SMALL_HANDSHAKE", "LargeHandshakes"]

#: Bytes of a client's part: a ClientHello of 0.3 to 1.7 KB, its chain and a signature. A part of more than MOST_SMALL
#: is large in every mesh.
SMALL_HANDSHAKE, MOST_SMALL, LARGE_HANDSHAKE = 7 << 9, 8 << 10, 16 << 10
#: Bytes of a server's part, which may list the CAs that it accepts. No LargeHandshakes there: we chose the server.
SERVER_HANDSHAKE = 64 << 10
#: Bytes beside a chain: the longest ClientHello, the signature of an RSA-4096 key, and what frames them.
_BESIDE_CHAIN = 1728 + 512 + 160
#: Two handshakes of one peer differ by a few bytes: an ECDSA signature has 70 to 72 of them.
_MARGIN = 64
_PER_SECOND, _SAVED_SECONDS = 2.0, 16.0


class LargeHandshakes:
    """How many large handshakes may be under way or have failed: 32, and 2 more each second.

    A handshake of at most ``small`` bytes is not large.
    """

    def __init__(self, clock: Clock) -> None:
        self.small = SMALL_HANDSHAKE
        self._clock = clock
        # It begins full, so it does not matter since when.
        self._budget = Budget(_PER_SECOND, 0.0, _SAVED_SECONDS)

    def allow_for_own_chain(self, size: int) -> None:
        """Our own SVID's chain has this many bytes, so a peer's may have as many."""
        self._needed(size + _BESIDE_CHAIN)

    def accepted(self, size: int) -> None:
        """A peer was accepted whose part had this many bytes."""
        self._needed(size + _MARGIN)

    def _needed(self, size: int) -> None:
        self.small = max(self.small, min(size, MOST_SMALL))

    def take(self) -> bool:
        """Begin one; False where none is left."""
        return self._budget.take(1, self._clock.monotonic())

    def give_back(self) -> None:
        """One that was begun is accepted."""
        self._budget.give_back(1)

    def __repr__(self) -> str:
        return f"<LargeHandshakes [{self._budget.left:g} left, of more than {self.small} bytes]>"
