"""The interface between rotation and a CA, and a CA in this process that implements it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cryptography import x509

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.spiffeid import SpiffeId

__all__ = ["IssuedWithBundles", "Issuer", "LocalIssuer"]


@dataclass(frozen=True, slots=True)
class IssuedWithBundles:
    """A certificate chain, leaf first, and the bundles that its holder trusts, its own trust domain's among them."""

    chain: tuple[x509.Certificate, ...]
    bundles: BundleSet


class Issuer(Protocol):
    """Signs CSRs for one identity, which is bound to the issuer and not taken from the CSR."""

    async def issue(self, csr_der: bytes) -> IssuedWithBundles:
        """Sign within bounded time. Raises LocalIdentityError or RequestError if no certificate is issued."""


class LocalIssuer:
    """An Authority of this process, for one workload. ``ttl`` counts from now; ``federated`` bundles of other trust
    domains are handed out with the authority's own.
    """

    def __init__(
        self,
        authority: Authority,
        spiffe_id: SpiffeId,
        *,
        ttl: timedelta | None = None,
        dns_names: Iterable[str] = (),
        federated: Iterable[TrustBundle] = (),
    ) -> None:
        self._authority = authority
        self._spiffe_id = spiffe_id
        self._ttl = ttl
        self._dns_names = tuple(dns_names)
        self._federated = tuple(federated)

    async def issue(self, csr_der: bytes) -> IssuedWithBundles:
        try:
            chain = self._authority.issue(self._spiffe_id, csr_der, ttl=self._ttl, dns_names=self._dns_names)
        except ConfigError as error:
            raise LocalIdentityError(f"the CA can't issue: {error}") from error
        # Our own bundle last: no federated one may take its place.
        return IssuedWithBundles(chain, BundleSet([*self._federated, self._authority.bundle]))

    def __repr__(self) -> str:
        return f"<LocalIssuer {self._spiffe_id}>"
