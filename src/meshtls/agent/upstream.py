"""The source of what an agent serves: a CA server, or a CA in the same process. Pure.

One stream gives the entries and bundles. Private keys stay with the agent, so X509-SVIDs are requested by CSR;
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

__all__ = ["EntryCsr", "SigningResult", "Update", "Upstream"]

SigningResult = tuple[x509.Certificate, ...] | MeshtlsError
"""A chain, leaf first, or why there is none for this entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of what may be served.

    - ``entries``: new or changed ones; ``removed``: ids. With ``whole``, ``entries`` are all there are.
    - ``bundles``: all there are, our own among them; None where none of them changed.
    - ``refused``: this agent may not serve any workload until a whole update comes.
    """

    entries: tuple[Entry, ...] = ()
    removed: tuple[str, ...] = ()
    bundles: BundleSet | None = None
    whole: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class EntryCsr:
    """A PKCS#10 request, DER, for the SVID of one entry; it needs no names, the entry decides."""

    entry_id: str
    csr: bytes


class Upstream(Protocol):
    """Used by one agent at a time. Calls end in bounded time."""

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain whose SVIDs it signs."""

    @property
    def trouble(self) -> str | None:
        """Why it can't be reached now, for an operator; None while it can."""

    def watch(self) -> AsyncGenerator[Update]:
        """First a whole update with the bundles, then each change as it comes. Ends only when closed: a lost connection
        is made again.
        """

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        """One result for each request, in their order. Raises LocalIdentityError where none was answered."""

    async def sign_jwt(self, entry_id: str, audience: Sequence[str]) -> str:
        """A token. Raises LocalIdentityError, RequestError for an audience that can't be, NotFoundError."""
