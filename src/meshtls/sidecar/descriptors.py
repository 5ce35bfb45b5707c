"""File descriptors for as many connections as a sidecar is to hold."""

from __future__ import annotations

import resource

from meshtls.errors import ConfigError

__all__ = ["make_room"]

_A_CONNECTION = 2
#: Listeners, logs, the CA's socket, an epoll, and what else a process has open.
_OTHERS = 128


def make_room(connections: int) -> int:
    """Raise this process's limit, where it is lower, to what so many connections need, and tell what it is now.

    Raises ConfigError where the process may not.
    """
    need = connections * _A_CONNECTION + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= need:
        return soft
    unbounded = hard == resource.RLIM_INFINITY
    try:
        # Only root may raise the hard limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard if unbounded else max(need, hard)))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"limits.connections: {connections} connections need {need} file descriptors, and this process may have"
            f" {hard}; raise its limit (ulimit -n, LimitNOFILE=), or lower limits.connections"
        ) from error
    return need
