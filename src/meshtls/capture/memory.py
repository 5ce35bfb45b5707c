"""How much memory may be taken by what is kept of all connections of a capture, together. Bounded. Pure.

A bound for each connection alone is none for thousands of them. So all draw from one pool. Half of it is for those that
take little, which a handshake and a few requests do, so that a few that want much leave the others what they need.
"""

from __future__ import annotations

__all__ = ["MOST_BYTES", "SMALL_BYTES", "Level", "MemoryPool", "MemoryShare"]

#: Bytes of a pool, and what a connection may take of the half that is for those that take little.
MOST_BYTES, SMALL_BYTES = 128 << 20, 16 << 10
#: The part of a pool that one connection may take at most.
_PART = 16


class MemoryPool:
    """The memory of a run.

    - ``most``, ``left``: bytes, as they are estimated by who takes them.
    - ``refused``: connections that wanted more than they could have, so that something of them was not kept.
    """

    __slots__ = ("left", "most", "refused")

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = self.left = most
        self.refused = 0

    def share(self) -> MemoryShare:
        """What one connection has of it: nothing as yet."""
        return MemoryShare(self)

    def __repr__(self) -> str:
        return f"<MemoryPool [{self.left} of {self.most} bytes left]>"


class MemoryShare:
    """What one connection has of the memory of all. ``taken``: bytes. ``refused``: it wanted more than there was."""

    __slots__ = ("_pool", "refused", "taken")

    def __init__(self, pool: MemoryPool) -> None:
        self._pool = pool
        self.taken = 0
        self.refused = False

    def take(self, count: int) -> bool:
        """Take so many bytes. False if there is no room for them: then nothing is taken."""
        pool = self._pool
        taken, left = self.taken + count, pool.left - count
        if left < 0 or (taken > SMALL_BYTES and (left < pool.most // 2 or taken > pool.most // _PART)):
            if not self.refused:
                self.refused = True
                pool.refused += 1
            return False
        self.taken, pool.left = taken, left
        return True

    def give_back(self, count: int) -> None:
        """Some of what was taken is no longer kept."""
        self.taken -= count
        self._pool.left += count

    def close(self) -> None:
        """Nothing is kept any more."""
        self.give_back(self.taken)

    @property
    def words(self) -> str:
        """Why something was refused."""
        return f"the {self._pool.most >> 20} MiB for all connections of the capture are in use"

    def __repr__(self) -> str:
        return f"<MemoryShare [{self.taken} bytes]>"


class Level:
    """Bytes of a buffer that grows and shrinks."""

    __slots__ = ("_bytes", "_share")

    def __init__(self, share: MemoryShare) -> None:
        self._share = share
        self._bytes = 0

    def to(self, count: int) -> bool:
        """Have so many bytes from now on. False if there is no room for them: they have to go, then."""
        more = count - self._bytes
        if more > 0:
            if not self._share.take(more):
                return False
        elif more:
            self._share.give_back(-more)
        self._bytes = count
        return True
