"""Connections whose peers have not proven an identity yet: a bound of their own, and which of them is evicted. Pure.

A peer that has proven nothing must not keep out one that can. So a new connection is always accepted, and at the limit
another is evicted: the oldest of the largest group, where a group is a source (an address) at a stage of its handshake.
A flood is the largest group, whatever it sends, and evicts its own connections; a peer that finishes its handshake does
not stay long enough to be among the oldest.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from enum import Enum
from functools import lru_cache
from typing import Generic, TypeVar

__all__ = ["Stage", "Unproven", "source_of"]

T = TypeVar("T", bound=Hashable)
#: Bits of an IPv6 prefix: the holder of an address chooses the others (RFC 4291, section 2.5.4).
_IPV6_PREFIX = 64


class Stage(Enum):
    """What an unproven connection waits for."""

    SILENT = "its first bytes"
    QUEUED = "its turn to begin the handshake"
    HANDSHAKE = "the peer's next flight"
    SESSION = "its first authorized stream"


class Unproven(Generic[T]):
    """At most ``limit`` members. Finding the one to evict takes time in the number of groups."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._group_of: dict[T, tuple[str, Stage]] = {}
        #: Each group's members in the order of their arrival; no group is empty.
        self._groups: dict[tuple[str, Stage], dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._group_of)

    def __contains__(self, member: T) -> bool:
        return member in self._group_of

    def enter(self, member: T, source: str) -> T | None:
        """Add a new connection from ``source``. Returns the one that was evicted for it, if any."""
        gone = None
        if len(self._group_of) >= self.limit:
            largest = max(self._groups, key=lambda group: len(self._groups[group]))
            gone = next(iter(self._groups[largest]))
            self.leave(gone)
        self._put(member, (source, Stage.SILENT))
        return gone

    def reach(self, member: T, stage: Stage) -> None:
        """The member is at this stage now. Does nothing for one that has left."""
        group = self._group_of.get(member)
        if group is not None and group[1] is not stage:
            self.leave(member)
            self._put(member, (group[0], stage))

    def leave(self, member: T) -> bool:
        """Remove a connection that is proven, or has ended. False where it was no member."""
        group = self._group_of.pop(member, None)
        if group is None:
            return False
        members = self._groups[group]
        del members[member]
        if not members:
            del self._groups[group]
        return True

    def _put(self, member: T, group: tuple[str, Stage]) -> None:
        self._group_of[member] = group
        self._groups.setdefault(group, {})[member] = None

    def __repr__(self) -> str:
        return f"<Unproven [{len(self)} of {self.limit} connections, {len(self._groups)} groups]>"


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """The key of the group of an address: the IPv4 address, the IPv6 /64, or one for all of loopback, where each peer
    may have any address. Text that is no address is its own key.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_loopback:
        return "loopback"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
