"""The upstream of an agent: a CA server, or a CA in the same process. Pure.

One stream delivers entries and bundles. Private keys stay with the agent, so X509-SVIDs are requested by CSR;
JWT-SVIDs, whose key is the server's, are requested by entry.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from meshtls.bundle import BundleSet
from meshtls.errors import MeshtlsError
from meshtls.registration import Entry
from meshtls.spiffeid import TrustDomain
from meshtls.svid.trust import NO_REVOCATIONS, Revocations

__all__ = ["EntryCsr", "SigningResult", "Update", "Upstream"]

SigningResult = tuple[x509.Certificate, ...] | MeshtlsError
"""A chain, leaf first, or the error for this entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of the entries or bundles that the agent may serve.

    - ``entries``: new or changed ones; with ``whole``, the complete set.
    - ``removed``: ids of removed entries.
    - ``bundles``: the complete set, our own among them; None if none changed.
    - ``tainted``: with bundles, the key identifiers of the authorities whose SVIDs are to be replaced now.
    - ``revocations``: with bundles, what the CRLs of our own trust domain revoke: all of it.
    - ``refused``: if not empty, why the server refuses this agent, which must not serve any workload until a whole
      update arrives.
    """

    entries: tuple[Entry, ...] = ()
    removed: tuple[str, ...] = ()
    bundles: BundleSet | None = None
    tainted: tuple[str, ...] = ()
    revocations: Revocations = NO_REVOCATIONS
    whole: bool = False
    refused: str = ""


@dataclass(frozen=True, slots=True)
class EntryCsr:
    """A PKCS#10 request, DER, for the SVID of one entry. It needs no names: the entry determines them."""

    entry_id: str
    csr: bytes


class Upstream(Protocol):
    """Used by one agent at a time. Calls end in bounded time."""

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain whose SVIDs it signs."""

    @property
    def trouble(self) -> str | None:
        """Why the upstream is unreachable, for an operator; None while it is reachable."""

    def watch(self) -> AsyncGenerator[Update]:
        """First a whole update with the bundles, then each change. Ends only when closed: a lost connection is made
        again.
        """

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        """One result for each request, in order. Raises LocalIdentityError if the whole call failed."""

    async def sign_jwt(self, entry_id: str, audience: Sequence[str]) -> str:
        """A token. Raises LocalIdentityError, NotFoundError, RequestError for an invalid audience."""
