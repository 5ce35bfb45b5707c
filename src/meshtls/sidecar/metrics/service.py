"""A sidecar's metrics as a whole: counted from its events, asked at a scrape, and added to those of other workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from meshtls.clock import Clock
from meshtls.observe.metrics import Metrics, Scrape, Snapshot
from meshtls.observe.metrics.http import answer_scrape
from meshtls.observe.metrics.kept_scrapes import KeptScrapes
from meshtls.observe.metrics.workload_api import IdentityFailure, count_identity_failures
from meshtls.observe.readiness import Readiness
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.metrics import families
from meshtls.sidecar.metrics.state import EarlyState, State, Told
from meshtls.sidecar.metrics.traffic import OwnNames, Traffic
from meshtls.sidecar.metrics.worker_snapshots import WorkerSnapshots
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["SidecarMetrics"]

#: Seconds between two looks of other workers at what this one has counted, and how many times as long as one takes.
_PUBLISH, _PAUSES = 1.0, 50.0


class SidecarMetrics:
    """``others``: the workers' places, in one of which this process has begun. One for each sidecar."""

    def __init__(self, others: WorkerSnapshots | None = None) -> None:
        self.metrics = Metrics()
        self._others = others
        self._traffic: Traffic | None = None
        self._early: EarlyState | None = None
        self._kept = KeptScrapes(self.snapshot)

    def tell_early(self, readiness: Callable[[], Readiness]) -> None:
        """Until ``follow``: tell that there is no SVID, and that the sidecar is not ready."""
        self._early = EarlyState(self.metrics, readiness)

    def follow(self, sidecar: Told, config: SidecarConfig) -> None:
        """Count what happens in this sidecar from now on."""
        if self._early is not None:
            self._early.end()
        registry = sidecar.runtime.registry
        traffic = self._traffic = Traffic(self.metrics, _own_names(config))
        sidecar.runtime.reporter.observe_ends(traffic)
        self.metrics.before_scrape(lambda: traffic.count_live(registry.connections))
        State(self.metrics, sidecar)

    def rename(self, config: SidecarConfig) -> None:
        """Take the workload's names from this configuration."""
        if self._traffic is not None:
            self._traffic.rename(_own_names(config))

    def snapshot(self) -> Snapshot:
        """The values now, those of the other workers included."""
        own = self.metrics.snapshot()
        return own if self._others is None else self._others.combined(own)

    def scrape(self, accept: str = "") -> Scrape:
        """The answer to a scrape with this Accept header, at most a quarter of a second old."""
        return self._kept.scrape(accept)

    def answer(self, request: bytes) -> bytes:
        """The response to the head of an HTTP request."""
        return answer_scrape(request, self.scrape)

    def publish(self) -> None:
        """Show the other workers what this one has counted."""
        if self._others is not None:
            self._others.publish(self.metrics.snapshot())

    async def keep_publishing(self, clock: Clock) -> None:
        """Publish again and again, until cancelled. Without other workers there is nothing to do."""
        while self._others is not None:
            began = time.monotonic()
            self.publish()
            await clock.sleep(max(_PUBLISH, _PAUSES * (time.monotonic() - began)))

    def count_left_out(self, read: Callable[[], int]) -> None:
        """Count lines of the access log that were left out: ``read`` is how many."""
        count = self.metrics.counter(families.LEFT_OUT).labels()

        def refresh() -> None:
            count.value = read()

        self.metrics.before_scrape(refresh)

    def count_identity_failures(self, read: Callable[[], Mapping[IdentityFailure, int]]) -> None:
        """Count failed attempts to get our SVID: ``read`` is how many, by their reason."""
        count_identity_failures(self.metrics, read)

    def count_rejected(self) -> None:
        """A configuration was not taken."""
        self.metrics.counter(families.CONFIG_REJECTED).inc()


def _own_names(config: SidecarConfig) -> OwnNames:
    said, segments = config.workload, config.spiffe_id.segments
    service = said.service or config.name
    return OwnNames(
        said.deployment or (segments[-1] if segments else service),
        workload_of(config.spiffe_id, namespace=said.namespace or None).namespace,
        service,
    )
