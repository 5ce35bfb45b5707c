"""The one frozen value that rotates: our SVIDs and what we trust, with a generation number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from meshtls.bundle import BundleSet
from meshtls.errors import LocalIdentityError
from meshtls.svid.trust import NO_REVOCATIONS, Revocations
from meshtls.svid.x509 import X509Svid

__all__ = ["ConstantSource", "WithdrawableSource", "X509Context", "X509ContextSource"]


@dataclass(frozen=True, slots=True)
class X509Context:
    """A snapshot. Readers take one and use it to the end; rotation makes a new one with a higher ``generation``.

    ``unusable`` says which received parts were left out, a line each, and does not count in comparisons.
    ``revocations`` are the certificates that the bundles' authorities, or CAs below them, have revoked.
    """

    generation: int
    svids: tuple[X509Svid, ...]
    bundles: BundleSet
    unusable: tuple[str, ...] = field(default=(), compare=False)
    revocations: Revocations = NO_REVOCATIONS

    @property
    def svid(self) -> X509Svid:
        """The default SVID, the first. Raises LocalIdentityError if there is none."""
        if not self.svids:
            raise LocalIdentityError("this workload has no X509-SVID: no identity was issued to it")
        return self.svids[0]


class X509ContextSource(Protocol):
    """A source of identities. Implemented by rotating sources and by ConstantSource."""

    def snapshot(self) -> X509Context:
        """The newest context. Raises LocalIdentityError if no SVID is valid now."""


@runtime_checkable
class WithdrawableSource(X509ContextSource, Protocol):
    """A source whose identity may be withdrawn before it expires."""

    async def withdrawn(self) -> LocalIdentityError:
        """Wait until the identity is withdrawn, if it is not already, and return the reason.

        Raises LocalIdentityError as ``changed``.
        """

    async def changed(self, after_generation: int | None = None) -> X509Context:
        """Wait for a context of a later generation. Raises LocalIdentityError when none can come any more."""


@dataclass(frozen=True, slots=True)
class ConstantSource:
    """An X509ContextSource of one context, valid or not: its user decides whether to present it."""

    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context
