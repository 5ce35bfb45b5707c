"""What all listeners of a sidecar share, and all that they serve."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshtls.clock import Clock
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.svid.context import X509ContextSource
from meshtls.svid.verifier import CurrentVerifier

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
    #: What all listeners verify peers by.
    verifier: CurrentVerifier = field(default_factory=CurrentVerifier)
