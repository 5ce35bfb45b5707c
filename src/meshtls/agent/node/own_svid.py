"""The agent's own SVID, which it presents to the server, and the bundle against which it verifies the server."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from meshtls.agent.node.store import NodeStore
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.clock import Clock
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.identity.request import checked_svid
from meshtls.logs import logger
from meshtls.svid.context import X509Context
from meshtls.svid.trust import NO_REVOCATIONS, Revocations
from meshtls.svid.x509 import PrivateKey, X509Svid, format_moment

__all__ = ["NodeIdentity"]

log = logger("meshtls.agent")


class NodeIdentity:
    """Implements X509ContextSource. ``bundle`` is the operator's at first, then the newest that the server sent.

    An SVID in ``store`` is used if it is still valid. Raises ConfigError if it can't be read.
    """

    def __init__(self, bundle: TrustBundle, store: NodeStore | None, clock: Clock) -> None:
        self.bundle = bundle
        self._store = store
        self._clock = clock
        self._context: X509Context | None = None
        self._generation = 0
        self._revocations = NO_REVOCATIONS
        kept = store.load(bundle.trust_domain) if store else None
        if kept and clock.now() < kept[0].not_after:
            self.bundle = kept[1]
            self._set(kept[0])

    def snapshot(self) -> X509Context:
        """The present context. Raises LocalIdentityError if the node has no valid SVID."""
        if self._context is None:
            raise LocalIdentityError("this agent is not attested yet")
        if self._clock.now() > self._context.svid.not_after:
            raise LocalIdentityError(
                f"the SVID of {self._context.svid.spiffe_id} has expired; the node has to attest again"
            )
        return self._context

    @property
    def valid(self) -> bool:
        """Whether there is an SVID that is valid now."""
        return self._context is not None and self._clock.now() <= self._context.svid.not_after

    @property
    def svid(self) -> X509Svid | None:
        """The present SVID, valid or not; None before the attestation and after ``forget``."""
        return self._context.svid if self._context else None

    def adopt(self, chain: Sequence[x509.Certificate], key: PrivateKey, bundle: TrustBundle | None = None) -> X509Svid:
        """Use the chain that the server signed for this key, and return the SVID.

        Raises LocalIdentityError if the SVID fails verification.
        """
        bundle = bundle or self.bundle
        svid = checked_svid(chain, key, BundleSet([bundle]), self._clock)
        self.bundle = bundle
        self._set(svid)
        log.info("this agent is %s until %s", svid.spiffe_id, format_moment(svid.not_after))
        self._save()
        return svid

    def trust(self, bundle: TrustBundle, revocations: Revocations) -> None:
        """Use this bundle of the trust domain from now on, and refuse what is revoked beside it."""
        if (bundle, revocations) != (self.bundle, self._revocations):
            self.bundle, self._revocations = bundle, revocations
            if self._context:
                self._set(self._context.svid)
                self._save()

    def forget(self) -> None:
        """Drop the SVID: the server no longer accepts it."""
        self._context = None

    def __repr__(self) -> str:
        name = str(self._context.svid.spiffe_id) if self._context else "not attested"
        return f"<NodeIdentity {name} [gen {self._generation}]>"

    def _set(self, svid: X509Svid) -> None:
        self._generation += 1
        self._context = X509Context(self._generation, (svid,), BundleSet([self.bundle]), revocations=self._revocations)

    def _save(self) -> None:
        if self._store is None or self._context is None:
            return
        try:
            self._store.save(self._context.svid, self.bundle)
        except ConfigError as error:
            # The agent continues with the SVID in memory; only a restart would need a new attestation.
            log.warning("the agent's SVID could not be saved: %s", error)
