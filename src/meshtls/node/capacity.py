"""How many pairs of sidecars may be open at a time, so that the process's file descriptors are enough."""

from __future__ import annotations

import resource

__all__ = ["pairs_at_once", "pairs_for"]

_MOST = 16
#: What the process has open beside the pairs, and what of a pair that has ended is still being closed.
_OTHERS = 24
#: Two listening sockets, both ends of three connections, the memory file of a key that is loaded, and one spare.
_A_PAIR = 10


def pairs_at_once() -> int:
    """As the soft limit (RLIMIT_NOFILE) is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else pairs_for(soft)


def pairs_for(descriptors: int) -> int:
    """For a limit of so many: at least one pair, and never more than 16: one thread carries them all,
    and on a busy machine more would only make each of them late."""
    return max(1, min(_MOST, (descriptors - _OTHERS) // _A_PAIR))
