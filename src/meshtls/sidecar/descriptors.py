"""File descriptors for as many connections as a sidecar is to hold."""

from __future__ import annotations

import resource

from meshtls.errors import ConfigError
from meshtls.sidecar.settings import Mode, OutboundConfig, SidecarConfig
from meshtls.wire.http2.settings import OPENED_STREAMS

__all__ = ["make_room", "sockets_beside_connections"]

_A_CONNECTION = 2
#: Logs, the CA's socket, an epoll, probes of health, scrapes, and what else a process has open.
_OTHERS = 128


def sockets_beside_connections(config: SidecarConfig) -> int:
    """The most sockets of a sidecar with this configuration that ``limits.connections`` does not count."""
    listeners = len(config.inbound) + len(config.outbound) + (config.health is not None) + (config.metrics is not None)
    return (
        listeners + _unproven(config) + sum(_ahead(listener, config.limits.connections) for listener in config.outbound)
    )


def make_room(connections: int, beside: int = 0) -> int:
    """Raise this process's limit, if it is lower, to what so many connections need. Returns the limit.

    ``beside``: the number of other sockets. Raises ConfigError if the process is not permitted to.
    """
    need = connections * _A_CONNECTION + beside + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= need:
        return soft
    unbounded = hard == resource.RLIM_INFINITY
    try:
        # Only root may raise the hard limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard if unbounded else max(need, hard)))
    except (ValueError, OSError) as error:
        others = f" ({beside} of them for listeners, unproven and warm connections, and tunnels)" if beside else ""
        raise ConfigError(
            f"limits.connections: {connections} connections need {need} file descriptors{others}, and this process may"
            f" have {hard}; raise its limit (ulimit -n, LimitNOFILE=), or lower limits.connections"
        ) from error
    return need


def _unproven(config: SidecarConfig) -> int:
    """The sockets of unproven peers; where plaintext is accepted, each may also have one to the app."""
    if not config.inbound:
        return 0
    dialled = any(listener.mode is not Mode.STRICT for listener in config.inbound)
    return config.limits.unproven * (_A_CONNECTION if dialled else 1)


def _ahead(listener: OutboundConfig, connections: int) -> int:
    """The sockets of an outbound listener that are open before an app's connection, or stay open after it."""
    if listener.tunnel:
        # The tunnels that all connections could fill, and as many of an older generation, which are draining.
        return 2 * -(-connections // OPENED_STREAMS)
    return listener.warm + 1 if listener.warm else 0  # one stands in for the app while another is made
