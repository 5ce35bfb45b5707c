"""What all listeners and connections of one sidecar share. What all sidecars of one event loop share is the reactor."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshtls.clock import Clock
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.svid.context import X509ContextSource
from meshtls.svid.verifier import CurrentVerifier

__all__ = ["Runtime"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One sidecar's reactor, identity and clock, its live connections, their reporter, and their memory."""

    reactor: Reactor
    source: X509ContextSource
    clock: Clock
    registry: Registry
    reporter: Reporter
    partings: Partings
    memory: ReceiveMemory
    #: Verifies the peers of all listeners.
    verifier: CurrentVerifier = field(default_factory=CurrentVerifier)
