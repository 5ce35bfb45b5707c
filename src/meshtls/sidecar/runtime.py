"""What all listeners and connections of one sidecar share. What all sidecars of one event loop share is the reactor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meshtls.clock import Clock
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.reactor import Reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.services import Services
from meshtls.sidecar.tracing.tracer import Tracer
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.wire_file import WireFile
from meshtls.svid.context import X509ContextSource
from meshtls.svid.verifier import CurrentVerifier
from meshtls.tls.context import TlsContexts, TlsOptions

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
    services: Services
    #: None where nothing is traced.
    tracer: Tracer | None = None
    #: Where the secrets of all TLS connections are written; None, as it should be, for nowhere.
    insecure_keylog_file: Path | None = None
    #: Where all connections over the network are written with their TLS secrets; None, as it should be, for nowhere.
    wire_file: WireFile | None = None
    #: Verifies the peers of all listeners.
    verifier: CurrentVerifier = field(default_factory=CurrentVerifier)

    @property
    def keylog(self) -> Path | int | None:
        """Where OpenSSL writes secrets: a file, or the memory from which ``wire_file`` takes them."""
        return self.insecure_keylog_file if self.wire_file is None else self.wire_file.keylog

    def tls_contexts(self, gate: Gate, options: TlsOptions, *, server_side: bool) -> TlsContexts:
        """The TLS contexts of one handler. A handshake asks the gate's precheck, and shares the verifier."""
        return TlsContexts(
            self.source,
            gate.precheck,
            server_side=server_side,
            options=options,
            clock=self.clock,
            verifier=self.verifier,
        )
