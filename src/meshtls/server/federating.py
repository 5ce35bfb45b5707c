"""Keeps the bundles of other trust domains current: asks each endpoint when its bundle says, and stores what changed.

A bundle in use is kept whatever happens to its endpoint: until it gives a newer one, an administrator sets another, or
the relation is deleted. Each trust domain's bundle is fetched, judged and stored by itself. Several servers on one
store each ask on their own, and a bundle that another has stored already changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from meshtls.bundle import TrustBundle
from meshtls.clock import first_of
from meshtls.errors import BundleError, ConfigError, MeshtlsError, NotFoundError, StoreError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.regular_files import read_regular
from meshtls.server.audit import bundle_state
from meshtls.server.bundle_fetching import BundleFetchError, Fetched, Get, check_sequence, fetch_bundle, get_over_tls
from meshtls.server.core import Core
from meshtls.server.foreign_bundle import has_authority_of
from meshtls.server.store import bundles, federation
from meshtls.server.store.changes import lock_writers
from meshtls.serverapi.federation import Relation, RelationStatus
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import format_moment

__all__ = ["Federation", "interval"]

#: Without a refresh hint (SPIFFE Federation, section 4.2), and the bounds of one, in seconds: another trust domain must
#: not have us ask all the time, or never again.
_DEFAULT, _SHORTEST, _LONGEST = 300.0, 5.0, 24 * 3600.0
#: Failures double the interval, up to this many seconds or the interval itself.
_LONGEST_BACKOFF = 600.0
_JITTER = 0.1

log = logger("meshtls.server")


def interval(refresh_hint: int | None, failures: int) -> float:
    """Seconds until the next attempt, after so many failures in a row; the first one changes nothing."""
    regular = min(max(float(refresh_hint), _SHORTEST), _LONGEST) if refresh_hint else _DEFAULT
    return min(regular * 2.0 ** min(max(failures - 1, 0), 10), max(regular, _LONGEST_BACKOFF))


class Federation:
    """The relations of one server. ``run`` follows them; ``refresh`` asks one now.

    ``jitter`` gives a number in [-1, 1] for each interval, and ``get`` is the network of each fetch. ``fetches`` counts
    the attempts to fetch a bundle, by trust domain and result: success or failure.
    """

    def __init__(self, core: Core, jitter: Callable[[], float], get: Get = get_over_tls) -> None:
        self._core = core
        self._jitter = jitter
        self._get = get
        self._followed: dict[TrustDomain, _Followed] = {}
        self.fetches: Counter[tuple[TrustDomain, str]] = Counter()

    async def run(self) -> None:
        """Follow each relation, forever."""
        tasks: dict[TrustDomain, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._core.hub.relations_changed.clear()
                present = {one.trust_domain: one for one in self.relations()}
                for domain, followed in list(self._followed.items()):
                    if present.get(domain) != followed.relation:
                        tasks.pop(domain).cancel()
                        del self._followed[domain]
                for followed in self._followed.values():
                    followed.bundle_may_have_changed()
                for domain, relation in present.items():
                    if domain not in self._followed:
                        self._followed[domain] = self._follow(relation)
                        tasks[domain] = group.create_task(self._followed[domain].run(self._jitter))
                await self._core.hub.relations_changed.wait()

    def relations(self) -> list[Relation]:
        """The relations of the file, which override those of the store, and the others of the store."""
        own = [one.relation for one in self._core.config.federates_with]
        domains = {one.trust_domain for one in own}
        return sorted(
            [*own, *(one for one in self._core.hub.relations if one.trust_domain not in domains)],
            key=lambda one: str(one.trust_domain),
        )

    def is_configured(self, trust_domain: TrustDomain) -> bool:
        """Whether the relation is in this server's file."""
        return any(one.relation.trust_domain == trust_domain for one in self._core.config.federates_with)

    def status(self, relation: Relation) -> RelationStatus:
        followed = self._followed.get(relation.trust_domain)
        known = followed if followed is not None and followed.relation == relation else None
        return RelationStatus(
            relation=relation,
            configured=self.is_configured(relation.trust_domain),
            bundle=self._core.hub.federated.get(relation.trust_domain),
            fetched_at=known.fetched_at if known else None,
            next_at=known.next_at if known else None,
            failure=known.failure if known and not known.is_outdated else "",
        )

    async def refresh(self, trust_domain: TrustDomain) -> RelationStatus:
        """Ask the endpoint now; the status has the failure, if it fails. Raises NotFoundError."""
        found = [one for one in self.relations() if one.trust_domain == trust_domain]
        if not found:
            raise NotFoundError(f"federation with {trust_domain}: there is none")
        followed = self._followed.get(trust_domain)
        if followed is None or followed.relation != found[0]:
            # It was created a moment ago, and ``run`` has not seen it yet.
            followed = self._follow(found[0])
            self._core.hub.relations_changed.set()
        await followed.refresh()
        return replace(self.status(found[0]), fetched_at=followed.fetched_at, failure=followed.failure)

    def _follow(self, relation: Relation) -> _Followed:
        return _Followed(self._core, relation, self.is_configured(relation.trust_domain), self.fetches, self._get)

    async def set_configured_bundles(self) -> None:
        """Set the bundles that the file names, of trust domains of which there is none yet. Raises ConfigError if one
        can't be used, and StoreError.
        """
        for one in self._core.config.federates_with:
            path, domain = one.bundle, one.relation.trust_domain
            if path is None or domain in self._core.hub.federated:
                continue
            bundle = _bundle_in(path, domain, self._core.hub.trust_domain)
            async with self._core.change() as tx:
                await bundles.set_bundle(tx, bundle)
                act = self._core.trail.record(
                    None, "set bundle", domain, after=bundle_state(bundle), credential=str(path)
                )
                await self._core.trail.append(tx, [act])


class _Followed:
    """One relation: when it was asked, and what came."""

    def __init__(
        self, core: Core, relation: Relation, configured: bool, fetches: Counter[tuple[TrustDomain, str]], get: Get
    ) -> None:
        self.relation = relation
        self.fetched_at: datetime | None = None
        self.next_at: datetime | None = None
        self.failure = ""
        self._core = core
        self._configured = configured
        self._fetches = fetches
        self._get = get
        self._outage = Outage(log, core.clock)
        self._last: Fetched | None = None
        self._one_at_a_time = asyncio.Lock()
        self._refreshed = asyncio.Event()
        self._again = asyncio.Event()
        # What the endpoint was authenticated with the last time.
        self._tried_with: TrustBundle | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the last attempt failed, with another bundle than there is now to authenticate the endpoint with."""
        return bool(self.failure) and self._tried_with != self._trusted()

    def bundle_may_have_changed(self) -> None:
        """Have ``run`` ask at once if what failed may succeed by now."""
        if self.is_outdated:
            self._again.set()

    async def run(self, jitter: Callable[[], float]) -> None:
        """Ask now, then at each interval, forever."""
        await self.refresh()
        while True:
            self._refreshed.clear()
            bundle = self._core.hub.federated.get(self.relation.trust_domain)
            seconds = interval(bundle.refresh_hint if bundle else None, self._outage.failures) * (
                1 + _JITTER * jitter()
            )
            self.next_at = self._core.clock.now() + timedelta(seconds=seconds)
            await first_of(self._refreshed.wait(), self._again.wait(), self._core.clock.sleep(seconds))
            if not self._refreshed.is_set():
                await self.refresh()

    async def refresh(self) -> None:
        """Ask once. What fails is logged, and in ``failure``."""
        async with self._one_at_a_time:
            self._again.clear()
            if self.is_outdated:
                self.failure = ""
            self._tried_with = self._trusted()
            try:
                await self._fetch()
            except (BundleFetchError, StoreError) as error:
                self._fetches[self.relation.trust_domain, "failure"] += 1
                self._failed(error)
            else:
                self._fetches[self.relation.trust_domain, "success"] += 1
                self.failure = ""
                self._outage.ended(f"the bundle of {self.relation.trust_domain} can be fetched again")
        self._refreshed.set()

    def _trusted(self) -> TrustBundle | None:
        """The bundle of another trust domain that the endpoint is authenticated with, if there is one."""
        endpoint_id = self.relation.endpoint_id
        return self._core.hub.federated.get(endpoint_id.trust_domain) if endpoint_id else None

    def _failed(self, error: MeshtlsError) -> None:
        domain = self.relation.trust_domain
        self.failure = str(error)
        if domain not in self._core.hub.federated:
            kept = "there is none yet, and no peer of it is trusted"
        elif self.fetched_at is None:
            kept = "the bundle in use is kept"
        else:
            kept = f"the bundle of {format_moment(self.fetched_at)} is kept"
        self._outage.failed(type(error), f"the bundle of {domain} can't be fetched; {kept}: {error}")

    async def _fetch(self) -> None:
        hub, domain = self._core.hub, self.relation.trust_domain

        def trusted(wanted: TrustDomain) -> TrustBundle | None:
            return hub.bundle if wanted == hub.trust_domain else hub.federated.get(wanted)

        # An ETag stands for the bundle that came with it, which an administrator may have replaced.
        unchanged = self._last is not None and hub.federated.get(domain) == self._last.bundle
        known = self._last if unchanged else None
        fetched = await fetch_bundle(self.relation, hub.trust_domain, trusted, self._core.clock, known, self._get)
        if fetched is not known:
            await self._store(fetched.bundle)
        self._last = fetched
        self.fetched_at = self._core.clock.now()

    async def _store(self, bundle: TrustBundle) -> None:
        domain = bundle.trust_domain
        check_sequence(self._core.hub.federated.get(domain), bundle)
        if self._core.hub.federated.get(domain) == bundle:
            return
        for line in bundle.unusable:
            log.warning("bundle from %s: %s", self.relation.url, line)
        if not bundle.x509_authorities and not bundle.jwt_authorities:
            log.warning("bundle from %s: no usable key, so no peer of %s is trusted", self.relation.url, domain)
        async with self._core.change() as tx:
            await lock_writers(tx)  # no other writer changes anything from here on
            if not self._configured and await federation.find_relation(tx, domain) != self.relation:
                return  # it was deleted or changed meanwhile
            stored = await bundles.federated_bundle(tx, domain)
            check_sequence(stored, bundle)
            if stored == bundle:
                return
            await bundles.set_bundle(tx, bundle)
            before = None if stored is None else bundle_state(stored)
            act = self._core.trail.record(
                None, "fetch bundle", domain, before=before, after=bundle_state(bundle), credential=self.relation.url
            )
            await self._core.trail.append(tx, [act])


def _bundle_in(path: Path, domain: TrustDomain, own: TrustDomain) -> TrustBundle:
    try:
        bundle = TrustBundle.from_jwks(domain, read_regular(path))
    except (OSError, BundleError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: wanted the bundle of trust domain {domain} as a SPIFFE document: {why}") from error
    if has_authority_of(bundle, own):
        raise ConfigError(
            f"{path}: wanted the bundle of trust domain {domain}, got an authority of {own}, this server's trust domain"
        )
    return bundle
