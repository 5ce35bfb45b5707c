"""Where an agent gets from what it may serve: a CA server, or a CA in the same process.

One stream says which entries and bundles there are; keys stay with the agent, so certificates are asked for by CSR, and
JWT-SVIDs, whose key is the server's, by entry.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from meshtls.bundle import BundleSet
from meshtls.ca.registration import Entry
from meshtls.errors import MeshtlsError
from meshtls.spiffeid import TrustDomain

__all__ = ["EntryCsr", "SigningResult", "Update", "Upstream"]

SigningResult = tuple[x509.Certificate, ...] | MeshtlsError
"""A chain, leaf first, or why there is none for this entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of what may be served. ``entries`` are new or changed, ``removed`` are ids; with ``whole`` the entries
    are all there are. ``bundles`` are all there are, ours among them; None where none of them changed. ``refused``:
    this agent may serve nobody, until a whole update comes.
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
        """The one whose SVIDs it signs."""

    @property
    def trouble(self) -> str | None:
        """Why it can't be reached now, in words for an operator; None while all is well."""

    def watch(self) -> AsyncGenerator[Update]:
        """First all there is, with the bundles, then each change as it comes. Ends only when closed: what is lost on
        the way is asked for again.
        """

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        """One result for each request, in their order. Raises LocalIdentityError where none was answered."""

    async def sign_jwt(self, entry_id: str, audience: Sequence[str]) -> str:
        """A token. Raises LocalIdentityError, RequestError for an audience that can't be, NotFoundError."""
