"""What a scrape finds out by asking: the sync with the server, the cache, the callers, and the agent's own SVID."""

from __future__ import annotations

from meshtls.agent.metrics import families
from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.upstream import ServerUpstream
from meshtls.agent.service import Agent
from meshtls.observe.metrics import Metrics
from meshtls.observe.metrics.build import READY, tell_build
from meshtls.observe.metrics.identity import IdentityGauges
from meshtls.revocation.lists import list_count, listed_count

__all__ = ["State"]

#: The APIs of the socket, by the beginning of their methods' paths.
_APIS = {
    "workload": "/SpiffeWorkloadAPI/",
    "sds": "/envoy.service.secret.v3.SecretDiscoveryService/",
    "health": "/grpc.health.v1.Health/",
}


class State:
    """Sets the gauges of ``metrics`` before each scrape, and the counters of what counts itself."""

    def __init__(self, metrics: Metrics, agent: Agent, identity: NodeIdentity, upstream: ServerUpstream) -> None:
        self._metrics = metrics
        self._agent = agent
        self._own_svid = identity
        self._upstream = upstream
        self._identity = IdentityGauges(metrics)
        tell_build(metrics, "agent")
        metrics.before_scrape(self.refresh)

    def refresh(self) -> None:
        self._metrics.gauge(READY).set(self._agent.readiness().ready)
        self._tell_sync()
        self._tell_cache()
        self._tell_callers()
        self._identity.set([self._own_svid], self._agent.identities.clock.now())

    def _tell_sync(self) -> None:
        counter, upstream = self._metrics.counter, self._upstream
        lag = self._metrics.gauge(families.LAG)
        lag.clear()
        if upstream.updated_at is not None:
            lag.set(self._agent.identities.clock.monotonic() - upstream.updated_at)
        self._metrics.gauge(families.SYNCED).set(self._agent.identities.cache.synced)
        for reason, count in upstream.failures.items():
            counter(families.SYNC_FAILURES).labels(reason).value = count
        for result, count in upstream.rotations.items():
            counter(families.OWN_ROTATIONS).labels(result).value = count

    def _tell_cache(self) -> None:
        gauge, identities = self._metrics.gauge, self._agent.identities
        cache, now = identities.cache, identities.clock.now()
        entries = tuple(cache.entries)
        held = [svid for one in entries if (svid := cache.svid_of(one.id)) is not None]
        valid = [svid for svid in held if now <= svid.not_after]
        gauge(families.ENTRIES).set(len(entries))
        states = {"valid": len(valid), "expired": len(held) - len(valid), "missing": len(entries) - len(held)}
        for state, count in states.items():
            gauge(families.SVIDS).labels(state).set(count)
        next_expiry, oldest, bundles = gauge(families.NEXT_EXPIRY), gauge(families.OLDEST), gauge(families.BUNDLES)
        for family in (next_expiry, oldest, bundles):
            family.clear()
        if valid:
            next_expiry.set(min(svid.not_after for svid in valid).timestamp())
        if held:
            oldest.set((now - min(svid.not_before for svid in held)).total_seconds())
        for bundle in cache.bundles:
            if bundle.sequence is not None:
                bundles.labels(bundle.trust_domain.name).set(bundle.sequence)
        gauge(families.CRLS).set(list_count(cache.revocations))
        gauge(families.REVOKED).set(listed_count(cache.revocations))
        gauge(families.JWT_SVIDS).set(len(identities.tokens))
        for result, count in identities.rotations.items():
            self._metrics.counter(families.ROTATIONS).labels(result).value = count

    def _tell_callers(self) -> None:
        counting = self._agent.counting
        self._metrics.gauge(families.WORKLOADS).set(len(counting.callers))
        for api, path in _APIS.items():
            open_calls = sum(count for method, count in counting.calls.open.items() if method.startswith(path))
            self._metrics.gauge(families.STREAMS).labels(api).set(open_calls)
        for (_, refusal), count in counting.refusals.counts.items():
            self._metrics.counter(families.REFUSED).labels(refusal.name).value = count
