"""``meshtls.metrics``: what a service that uses the library can say of its identities and its connections."""

from __future__ import annotations

from meshtls.clock import SystemClock
from meshtls.observe.metrics import Metrics, Scrape, Snapshot, scrape
from meshtls.observe.metrics.build import BUILD, tell_build
from meshtls.observe.metrics.identity import IDENTITY_FAMILIES, IdentityGauges
from meshtls.observe.metrics.workload_api import WORKLOAD_API_FAILURES, CountsIdentityFailures, IdentityFailure
from meshtls.svid.context import X509ContextSource
from meshtls.tls.counts import DIALLED, LISTENED, STREAM_COUNTS

__all__ = ["LIBRARY_FAMILIES", "metrics"]

LIBRARY_FAMILIES = (DIALLED, LISTENED, *IDENTITY_FAMILIES, WORKLOAD_API_FAILURES, BUILD)

_METRICS = Metrics()
tell_build(_METRICS, "library")
_IDENTITY = IdentityGauges(_METRICS)


def metrics(*sources: X509ContextSource, accept: str = "") -> Scrape:
    """The answer to a scrape of this process by Prometheus, as ``content_type`` and ``content``, in bytes.

    It tells of the SVIDs and the bundles of ``sources``, and counts the handshakes of ``dial`` and ``listen``.
    ``accept`` is the request's Accept header: OpenMetrics 1.0 where it prefers that, else text 0.0.4. Serve it where
    only the scraper comes: it names the SPIFFE IDs.
    """
    if sources:
        _IDENTITY.set(sources, SystemClock().now())
        failures = _METRICS.counter(WORKLOAD_API_FAILURES)
        counting = [one for one in sources if isinstance(one, CountsIdentityFailures)]
        for reason in IdentityFailure:
            failures.labels(reason.value).value = sum(one.failures.get(reason, 0) for one in counting)
    own = _METRICS.snapshot()
    names = {one.family.name for one in own.families}
    counts = tuple(one for one in STREAM_COUNTS.snapshot().families if one.family.name not in names)
    return scrape(Snapshot((*counts, *own.families)), accept)
