"""Raises the limit of file descriptors for the connections of a listener, and keeps a reserve."""

from __future__ import annotations

import resource
from dataclasses import replace

from meshtls.logs import logger
from meshtls.rpc.limits import ListenerLimits

__all__ = ["RESERVE", "within_descriptors"]

#: The reserve, for the database, logs, keys, outgoing connections and attestation: never used for connections.
RESERVE = 256

log = logger("meshtls.rpc")


def within_descriptors(limits: ListenerLimits, each: int) -> ListenerLimits:
    """These limits with the number of connections bounded by this process's descriptors, ``each`` per connection.

    The soft limit is raised first, as far as needed and permitted (setrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = limits.connections * each + RESERVE
    if soft == resource.RLIM_INFINITY or soft >= need:
        return limits
    may = need if hard == resource.RLIM_INFINITY else min(need, hard)
    if may > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may, hard))
    if may == need:
        return limits
    room = max(1, max(may - RESERVE, may // 2) // each)
    log.warning(
        "limits.connections: %d connections need %d file descriptors, and this process may have %d; %d are taken"
        " (ulimit -n, LimitNOFILE=)",
        limits.connections,
        need,
        may,
        room,
    )
    return replace(
        limits, connections=room, connections_per_caller=min(limits.connections_per_caller, max(1, room // 2))
    )
