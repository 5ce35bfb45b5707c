"""The server's own X509-SVID, which it presents to agents: signed by itself, recorded, renewed at half of its life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError
from meshtls.identity.renewal import SvidRenewal
from meshtls.identity.request import new_key
from meshtls.logs import logger
from meshtls.registration import server_id
from meshtls.server.ledger import Ledger
from meshtls.server.signing import Signing
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid
from meshtls.workload.calls import any_jitter

__all__ = ["ServerIdentity"]

_LIFE = timedelta(hours=1)

log = logger("meshtls.server")


class ServerIdentity:
    """An X509ContextSource. Call ``renew`` before use, and ``trust`` with each new bundle.

    ``life`` is how long each SVID is valid: no longer than the intermediate that signs it. ``jitter`` gives a number in
    [-1, 1] for each renewal. ``spiffe_id`` is the ID if it is not that of meshtls servers.
    """

    def __init__(
        self,
        trust_domain: TrustDomain,
        signing: Signing,
        ledger: Ledger,
        clock: Clock,
        *,
        life: timedelta = _LIFE,
        jitter: Callable[[], float] = any_jitter,
        spiffe_id: SpiffeId | None = None,
    ) -> None:
        self._spiffe_id = spiffe_id or server_id(trust_domain)
        self._signing = signing
        self._ledger = ledger
        self._clock = clock
        self._life = life
        self._renewal = SvidRenewal(self._next_svid, clock, jitter, log)
        self._context: X509Context | None = None
        self._bundle = TrustBundle(trust_domain)

    def snapshot(self) -> X509Context:
        """Raises LocalIdentityError where there is no SVID yet, or where it has expired."""
        context = self._context
        if context is None or self._clock.now() > context.svid.not_after:
            raise LocalIdentityError(f"{self._spiffe_id}: the server has no valid SVID of its own now")
        return context

    @property
    def svid(self) -> X509Svid | None:
        """The present SVID, valid or not; None before the first."""
        return self._context.svid if self._context else None

    def trust(self, bundle: TrustBundle) -> None:
        """Verify agents against this bundle, which has the authorities of all servers of the trust domain."""
        self._bundle = bundle
        if self._context is not None:
            self._context = replace(self._context, generation=self._context.generation + 1, bundles=BundleSet([bundle]))

    async def renew(self) -> None:
        """Sign a new SVID. Raises StoreError or ConfigError; the present one is then kept."""
        await self._renewal.renew()

    async def keep(self) -> None:
        """Renew at half-life, for ever; where that fails try again until it works."""
        await self._renewal.run()

    async def _next_svid(self) -> X509Svid:
        key = new_key()
        signed = self._signing.x509(self._spiffe_id, key.public_key(), self._life)
        await self._ledger.commit(self._ledger.trail.record(None, "renew own SVID", self._spiffe_id), [signed])
        generation = self._context.generation + 1 if self._context else 1
        svid = X509Svid.from_chain(signed.chain, key)
        self._context = X509Context(generation, (svid,), BundleSet([self._bundle]))
        return svid
