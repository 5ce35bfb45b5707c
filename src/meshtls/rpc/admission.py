"""Admission of connections: budgets per caller and per listener. At the limit the largest holder loses one. Pure.

A caller is identified by what can't be forged: a uid, a remote address (IPv6: a /64, since one host may have a whole
one), or after mutual TLS a SPIFFE ID.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from typing import Protocol

from meshtls.budget import Budget
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.shedding import Refusal

__all__ = ["Admission", "CallerBudgets", "Member", "address_caller"]

#: The number of callers without a connection whose budgets are kept.
_MOST_REMEMBERED = 4096
_BITS_OF_A_HOST = 64
_ABSENT = object()


class Member(Protocol):
    """A connection, from the view of admission."""

    caller: CallerBudgets
    proven: bool
    """Whether its caller is authenticated."""

    @property
    def busy(self) -> bool:
        """Whether calls are open on it."""

    def evict(self, refusal: Refusal) -> None:
        """End the connection and leave the admission at once."""


class CallerBudgets:
    """One caller's budgets, connections (oldest first) and streams."""

    __slots__ = ("bytes", "calls", "connections", "idle_frames", "name", "new_connections", "resets", "streams")

    def __init__(self, name: str, limits: ListenerLimits, now: float) -> None:
        self.name = name
        self.connections: dict[Member, object] = {}
        self.streams = 0
        self.bytes = 0
        self.new_connections = Budget(limits.connections_per_second, now)
        self.resets = Budget(limits.resets_per_second, now)
        self.idle_frames = Budget(limits.idle_frames_per_second, now)
        self.calls = None if limits.calls_per_second is None else Budget(limits.calls_per_second, now)

    def set_limits(self, limits: ListenerLimits, now: float) -> None:
        self.new_connections.set_rate(limits.connections_per_second, now)
        self.resets.set_rate(limits.resets_per_second, now)
        self.idle_frames.set_rate(limits.idle_frames_per_second, now)
        if self.calls is not None and limits.calls_per_second is not None:
            self.calls.set_rate(limits.calls_per_second, now)

    def oldest_to_evict(self) -> Member | None:
        """The oldest connection without calls, else the oldest."""
        idle = (one for one in self.connections if not one.busy)
        return next(idle, None) or next(iter(self.connections), None)

    def __repr__(self) -> str:
        return f"<CallerBudgets {self.name} [{len(self.connections)} connections, {self.streams} streams]>"


class Admission:
    """The admission of one listener. Connections enter by ``admit`` and leave by ``leave``."""

    def __init__(self, limits: ListenerLimits) -> None:
        self.limits = limits
        self.bytes = 0
        self._connections = 0
        #: Oldest first.
        self._unproven: dict[Member, None] = {}
        self._callers: OrderedDict[str, CallerBudgets] = OrderedDict()

    def __len__(self) -> int:
        return self._connections

    def set_limits(self, limits: ListenerLimits, now: float) -> None:
        """Use these limits from now on. A caller above them keeps its connections until they are evicted or end."""
        self.limits = limits
        for caller in self._callers.values():
            caller.set_limits(limits, now)

    def caller(self, name: str, now: float) -> CallerBudgets:
        """The caller of this name, with its budgets."""
        known = self._callers.get(name)
        if known is None:
            known = self._callers[name] = CallerBudgets(name, self.limits, now)
            self._forget()
        else:
            self._callers.move_to_end(name)
        return known

    def admit(self, name: str, member: Member, now: float) -> Refusal | None:
        """Add a new connection of this caller, or return the reason to refuse it. It may evict another connection."""
        caller = self.caller(name, now)
        if not caller.new_connections.take(1, now):
            return Refusal.CONNECTION_RATE
        refusal = self._make_room_within(caller) or self._make_room(caller, member)
        if refusal is None:
            self._enter(caller, member)
        return refusal

    def prove(self, member: Member, name: str, now: float) -> Refusal | None:
        """Move a connection to the caller that its handshake has authenticated."""
        caller = self.caller(name, now)
        refusal = self._make_room_within(caller)
        if refusal is None:
            self.leave(member)
            member.proven = True
            self._enter(caller, member)
        return refusal

    def leave(self, member: Member) -> None:
        """Remove an ended connection. A second call does nothing."""
        if member.caller.connections.pop(member, _ABSENT) is not _ABSENT:
            self._connections -= 1
            self._unproven.pop(member, None)

    def reserve(self, caller: CallerBudgets, count: int) -> bool:
        """Reserve memory for a message that is about to arrive; ``free`` releases it."""
        room = min(self.limits.bytes_per_caller - caller.bytes, self.limits.bytes_in_all - self.bytes)
        if count > room:
            return False
        caller.bytes += count
        self.bytes += count
        return True

    def free(self, caller: CallerBudgets, count: int) -> None:
        caller.bytes -= count
        self.bytes -= count

    def _enter(self, caller: CallerBudgets, member: Member) -> None:
        member.caller = caller
        caller.connections[member] = None
        self._connections += 1
        if not member.proven:
            self._unproven[member] = None

    def _make_room_within(self, caller: CallerBudgets) -> Refusal | None:
        """Evict the caller's own oldest idle connection, so that idle ones never lock a caller out."""
        if len(caller.connections) < self.limits.connections_per_caller:
            return None
        oldest = caller.oldest_to_evict()
        if oldest is None or oldest.busy:
            return Refusal.CONNECTIONS_PER_CALLER
        oldest.evict(Refusal.EVICTED)
        return None

    def _make_room(self, caller: CallerBudgets, member: Member) -> Refusal | None:
        """Evict from the largest holder; among unauthenticated callers, whose number is unbounded, the oldest idle."""
        strangers = not member.proven and len(self._unproven) >= max(1, self.limits.connections // 2)
        if self._connections < self.limits.connections and not strangers:
            return None
        # An unauthenticated caller never evicts an authenticated one.
        if self._unproven:
            holders = Counter(one.caller for one in self._unproven)
        else:
            holders = Counter({one: len(one.connections) for one in self._callers.values()})
        largest, held = max(holders.items(), key=lambda item: item[1])
        if held > len(caller.connections) + 1:
            victim = largest.oldest_to_evict()
        else:
            victim = next((one for one in self._unproven if not one.busy), None)
        if victim is None:
            return Refusal.CONNECTIONS
        victim.evict(Refusal.EVICTED)
        return None

    def _forget(self) -> None:
        """Forget the longest idle callers, if there are too many; never one that holds a connection or a stream."""
        if len(self._callers) - self._connections <= _MOST_REMEMBERED:
            return
        for name, caller in self._callers.items():
            if not caller.connections and not caller.streams:
                del self._callers[name]
                return

    def __repr__(self) -> str:
        return (
            f"<Admission [{self._connections} of {self.limits.connections} connections, {len(self._callers)} callers]>"
        )


def address_caller(host: str) -> str:
    """The caller name of this IP address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _BITS_OF_A_HOST), strict=False))
