"""What a scrape finds out by asking: the authorities, the view of the store, other trust domains, and the logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from meshtls.ca.authority_states import PUBLISHED
from meshtls.errors import ConfigError
from meshtls.observe.metrics import Metrics
from meshtls.observe.metrics.build import READY, tell_build
from meshtls.observe.metrics.identity import IdentityGauges
from meshtls.revocation.lists import listed_count
from meshtls.rpc.shedding import Refusals
from meshtls.server.core import Core
from meshtls.server.federating import Federation
from meshtls.server.metrics import families
from meshtls.server.metrics.store_facts import AskedStore
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.store.authorities import UPSTREAM, AuthorityRecord

__all__ = ["State"]


class State:
    """Sets the gauges of ``metrics`` before each scrape, and the counters of what counts itself."""

    def __init__(
        self,
        metrics: Metrics,
        core: Core,
        identity: ServerIdentity,
        federation: Federation,
        refusals: Refusals,
        store: AskedStore,
        is_ready: Callable[[], bool],
    ) -> None:
        """``is_ready``: apart from the store."""
        self._metrics = metrics
        self._core = core
        self._own_svid = identity
        self._federation = federation
        self._refusals = refusals
        self._store = store
        self._is_ready = is_ready
        self._identity = IdentityGauges(metrics)
        tell_build(metrics, "server")
        metrics.before_scrape(self.refresh)

    def refresh(self) -> None:
        now = self._core.clock.now()
        self._tell_store(now)
        self._tell_view()
        self._tell_chain()
        self._tell_partners()
        self._tell_log()
        for (listener, refusal), count in self._refusals.counts.items():
            self._metrics.counter(families.REFUSED).labels(listener, refusal.name).value = count
        self._identity.set([self._own_svid], now)

    def _tell_store(self, now: datetime) -> None:
        facts, gauge = self._store.facts, self._metrics.gauge
        gauge(families.STORE_UP).set(facts is not None)
        gauge(READY).set(facts is not None and self._is_ready())
        of_store = families.ENTRIES, families.AGENTS, families.AUDIT_RECORDS
        for family in (*of_store, families.AUTHORITIES, families.REMAINING, families.AUTHORITY_EXPIRY):
            gauge(family).clear()
        if facts is None:
            return
        gauge(families.ENTRIES).set(facts.entries)
        gauge(families.AUDIT_RECORDS).set(facts.audit_records)
        for state, count in facts.agents._asdict().items():
            gauge(families.AGENTS).labels(state).set(count)
        mine = (self._core.signing.server_id, UPSTREAM)
        self._tell_authorities([one for one in facts.authorities if one.server_id in mine], now)

    def _tell_authorities(self, records: list[AuthorityRecord], now: datetime) -> None:
        gauge, ends = self._metrics.gauge, defaultdict[tuple[str, str], list[datetime]](list)
        for one in records:
            if one.state in PUBLISHED:
                ends[one.kind, one.state.name.lower()].append(one.ends_at)
        for kind in families.KIND.values:
            for state in families.STATES:
                gauge(families.AUTHORITIES).labels(kind, state).set(len(ends[kind, state]))
        for labels, moments in ends.items():
            if moments:
                first = min(moments)
                gauge(families.REMAINING).labels(*labels).set((first - now).total_seconds())
                gauge(families.AUTHORITY_EXPIRY).labels(*labels).set(first.timestamp())

    def _tell_view(self) -> None:
        gauge, hub = self._metrics.gauge, self._core.hub
        gauge(families.LAG).set(hub.lag)
        gauge(families.REVISION).set(hub.revision)
        gauge(families.CONNECTED).set(hub.subscribers)
        self._metrics.counter(families.SYNC_FAILURES).labels().value = hub.failures
        revoked = gauge(families.REVOCATIONS)
        revoked.labels("certificate").set(listed_count(hub.revocations))
        revoked.labels("spiffe_id").set(len(hub.blocks.spiffe_ids))
        revoked.labels("entry").set(len(hub.blocks.entries))

    def _tell_chain(self) -> None:
        expiry = self._metrics.gauge(families.CA_EXPIRY)
        expiry.clear()
        try:
            authority = self._core.signing.authority
        except ConfigError:
            return
        expiry.labels("root").set(authority.root.not_valid_after_utc.timestamp())
        ends = [one.certificate.not_valid_after_utc.timestamp() for one in authority.crl_signers]
        if ends:
            expiry.labels("intermediate").set(max(ends))

    def _tell_partners(self) -> None:
        gauge, fetches = self._metrics.gauge, self._metrics.counter(families.PARTNER_FETCHES)
        success, sequence = gauge(families.PARTNER_SUCCESS), gauge(families.PARTNER_SEQUENCE)
        stale = gauge(families.PARTNER_STALE)
        for one in (success, sequence, stale):
            one.clear()
        for relation in self._federation.relations():
            status, name = self._federation.status(relation), relation.trust_domain.name
            stale.labels(name).set(status.bundle is None or bool(status.failure))
            if status.fetched_at is not None:
                success.labels(name).set(status.fetched_at.timestamp())
            if status.bundle is not None and status.bundle.sequence is not None:
                sequence.labels(name).set(status.bundle.sequence)
        for (domain, result), count in self._federation.fetches.items():
            fetches.labels(domain.name, result).value = count

    def _tell_log(self) -> None:
        gauge, log = self._metrics.gauge, self._core.log
        leaves = gauge(families.LOG_LEAVES)
        leaves.labels("appended").set(log.size)
        leaves.labels("signed").set(log.published.size)
        gauge(families.LOG_REFUSED).set(log.has_refused)
        self._metrics.counter(families.LOG_FAILURES).labels().value = log.failures
