"""The metrics of a program's own identity: the same for a sidecar and for a service. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from meshtls.bundle import TrustBundle
from meshtls.errors import LocalIdentityError
from meshtls.observe.metrics.declaring import Label, Merge, gauge
from meshtls.observe.metrics.values import Metrics
from meshtls.spiffeid import TrustDomain
from meshtls.svid.context import X509Context, X509ContextSource

__all__ = ["IDENTITY_FAMILIES", "IdentityGauges", "context_of"]

EXPIRY = gauge(
    "meshtls_svid_expiry_timestamp_seconds",
    "When our X509-SVID expires, in seconds since 1970.",
    Label("spiffe_id"),
    unit="seconds",
    merge=Merge.MIN,
)
AGE = gauge(
    "meshtls_svid_age_seconds",
    "Time since our X509-SVID became valid.",
    Label("spiffe_id"),
    unit="seconds",
    merge=Merge.MAX,
)
HAS_IDENTITY = gauge("meshtls_svid_valid", "1 as long as there is a valid X509-SVID, else 0.", merge=Merge.MIN)
BUNDLE_SEQUENCE = gauge(
    "meshtls_bundle_sequence",
    "The sequence number of a trust domain's bundle, where it has one.",
    Label("trust_domain"),
    merge=Merge.MIN,
)
BUNDLE_AGE = gauge(
    "meshtls_bundle_age_seconds",
    "Time since a trust domain's bundle last changed here.",
    Label("trust_domain"),
    unit="seconds",
    merge=Merge.MAX,
)
TRUST_GENERATION = gauge(
    "meshtls_trust_generation",
    "The generation of the SVID and the bundles in use. Each process counts its own.",
    merge=Merge.MIN,
)
IDENTITY_FAMILIES = (HAS_IDENTITY, EXPIRY, AGE, BUNDLE_SEQUENCE, BUNDLE_AGE, TRUST_GENERATION)


class IdentityGauges:
    """Sets these gauges in ``metrics``."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        #: Since when each bundle is as it is.
        self._bundles: dict[TrustDomain, tuple[TrustBundle, datetime]] = {}

    def set(self, sources: Iterable[X509ContextSource], now: datetime) -> None:
        """What these sources have now. Of several, the lowest generation counts."""
        gauge_of = self._metrics.gauge
        expiry, age = gauge_of(EXPIRY), gauge_of(AGE)
        sequences, ages, generation = gauge_of(BUNDLE_SEQUENCE), gauge_of(BUNDLE_AGE), gauge_of(TRUST_GENERATION)
        for one in (expiry, age, sequences, ages, generation):
            one.clear()
        contexts = [context_of(source) for source in sources]
        known = [context for context in contexts if context is not None]
        gauge_of(HAS_IDENTITY).set(bool(known) and len(known) == len(contexts))
        if known:
            generation.set(min(context.generation for context in known))
        before, self._bundles = self._bundles, {}
        for context in known:
            name = str(context.svid.spiffe_id)
            expiry.labels(name).set(context.svid.not_after.timestamp())
            age.labels(name).set((now - context.svid.not_before).total_seconds())
            for bundle in context.bundles:
                kept, since = before.get(bundle.trust_domain, (None, now))
                since = since if kept == bundle else now
                self._bundles[bundle.trust_domain] = bundle, since
                ages.labels(bundle.trust_domain.name).set((now - since).total_seconds())
                if bundle.sequence is not None:
                    sequences.labels(bundle.trust_domain.name).set(bundle.sequence)


def context_of(source: X509ContextSource) -> X509Context | None:
    """None where there is no valid SVID."""
    try:
        context = source.snapshot()
        context.svid  # noqa: B018  # raises where there is none
    except LocalIdentityError:
        return None
    return context
