"""The proxies that are measured, each behind the small ``Peer`` protocol."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Peer
from bench.peers.baseline import AsyncioStreams
from bench.peers.envoy import Envoy
from bench.peers.haproxy import HAProxy
from bench.peers.meshtls import Meshtls, MeshtlsWithMetrics
from bench.peers.nginx import Nginx
from bench.peers.stunnel import Stunnel

__all__ = ["all_peers"]


def all_peers(root: Path) -> list[Peer]:
    """All peers; ``root`` is the directory for Envoy's virtual environment."""
    return [
        Meshtls(),
        Envoy(root / ".venv-envoy"),
        Nginx(),
        HAProxy(),
        Stunnel(),
        AsyncioStreams(),
        MeshtlsWithMetrics(),
    ]
