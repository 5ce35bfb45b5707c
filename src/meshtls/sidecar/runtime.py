"""What all listeners of a sidecar share, and all that they serve."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.clock import Clock
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.svid.context import X509ContextSource

__all__ = ["Runtime"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One sidecar's: its identity, its clock, the connections that live, where they are reported, and their memory."""

    source: X509ContextSource
    clock: Clock
    registry: Registry
    reporter: Reporter
    partings: Partings
    memory: ReceiveMemory
