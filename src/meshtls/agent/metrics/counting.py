"""What an agent counts where it happens: its callers, their attestations, and calls."""

from __future__ import annotations

from collections import Counter

from meshtls.agent.metrics import families
from meshtls.agent.metrics.families import Denial
from meshtls.observe.metrics import Metrics
from meshtls.rpc.call_metrics import CallMetrics
from meshtls.rpc.shedding import Refusals

__all__ = ["Counting"]


class Counting:
    """Counts in ``metrics``, and ``rotations`` by their result, ``callers`` by process, and ``refusals`` by reason."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.calls = CallMetrics(self.metrics, families.RPCS, families.RPC_TIME)
        self.refusals = Refusals()
        #: The open connections of each process that has one.
        self.callers: Counter[int] = Counter()
        self.attestation = self.metrics.histogram(families.ATTESTATION_TIME).labels()
        denials = self.metrics.counter(families.DENIALS)
        self._denials = {one: denials.labels(one.value) for one in Denial}

    def denied(self, why: Denial) -> None:
        self._denials[why].inc()

    def connected(self, pid: int) -> None:
        """A process has a connection more; 0 stands for all whose PID is not known."""
        self.callers[pid] += 1

    def disconnected(self, pid: int) -> None:
        self.callers[pid] -= 1
        if not self.callers[pid]:
            del self.callers[pid]
