"""The server's own X509-SVID: what it shows to agents. Signed by itself, recorded, renewed at half its life."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import SystemRandom

from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.registration import server_id
from meshtls.ca.store.database import Database
from meshtls.ca.store.issuances import record_issuances
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError, MeshtlsError
from meshtls.logs import logger
from meshtls.server.signing import Signing
from meshtls.spiffeid import TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.lifetime import backoff, next_rotation
from meshtls.svid.x509 import X509Svid

__all__ = ["ServerIdentity"]

_LIFE = timedelta(hours=1)
_LONGEST_SLEEP = 30.0

log = logger("meshtls.server")


class ServerIdentity:
    """Meets X509ContextSource. ``renew`` it before use; ``trust`` tells it of each new bundle."""

    def __init__(self, trust_domain: TrustDomain, signing: Signing, database: Database, clock: Clock) -> None:
        self._spiffe_id = server_id(trust_domain)
        self._signing = signing
        self._database = database
        self._clock = clock
        self._context: X509Context | None = None
        self._bundle = TrustBundle(trust_domain)

    def snapshot(self) -> X509Context:
        """Raises LocalIdentityError where there is none yet, or where it has expired by the clock."""
        context = self._context
        if context is None or self._clock.now() > context.svid.not_after:
            raise LocalIdentityError(f"{self._spiffe_id}: the server has no valid SVID of its own now")
        return context

    def trust(self, bundle: TrustBundle) -> None:
        """Believe the agents that this bundle vouches for: those of all servers of the domain."""
        self._bundle = bundle
        if self._context is not None:
            self._context = replace(self._context, generation=self._context.generation + 1, bundles=BundleSet([bundle]))

    async def renew(self) -> None:
        """Sign a new SVID. Raises StoreError or ConfigError; the present one is then kept."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signing.x509(self._spiffe_id, key.public_key(), _LIFE)
        async with self._database.write() as tx:
            await record_issuances(tx, [signed.record])
        generation = self._context.generation + 1 if self._context else 1
        svid = X509Svid.from_chain(signed.chain, key)
        self._context = X509Context(generation, (svid,), BundleSet([self._bundle]))

    async def keep(self) -> None:
        """Renew at half-life, for ever; where that fails try again until it works."""
        failures = 0
        while True:
            await self._until_due(failures)
            try:
                await self.renew()
                failures = 0
            except MeshtlsError as error:
                failures += 1
                log.warning("the server's own SVID could not be renewed, trying again: %s", error)

    async def _until_due(self, failures: int) -> None:
        if failures:
            await self._clock.sleep(backoff(failures, SystemRandom().uniform(-1, 1)))
            return
        svid = self.snapshot().svid
        due = next_rotation(svid.not_before, svid.not_after, SystemRandom().uniform(-1, 1))
        # Wall time is looked at again this often: a sleep does not count the time that the machine was suspended.
        while (seconds := (due - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(min(seconds, _LONGEST_SLEEP))
