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

    ``unusable`` says what came with it and was left out, a line each, and is no part of what is compared.
    ``revocations`` are the certificates that the bundles' authorities, or CAs below them, have revoked.
    """

    generation: int
    svids: tuple[X509Svid, ...]
    bundles: BundleSet
    unusable: tuple[str, ...] = field(default=(), compare=False)
    revocations: Revocations = NO_REVOCATIONS

    @property
    def svid(self) -> X509Svid:
        """The default SVID, the first. Raises LocalIdentityError where there is none."""
        if not self.svids:
            raise LocalIdentityError("this workload has no X509-SVID: no identity was issued to it")
        return self.svids[0]


class X509ContextSource(Protocol):
    """Where identities come from. Met by a rotating source and by a constant."""

    def snapshot(self) -> X509Context:
        """The newest context. Raises LocalIdentityError where no SVID is valid now."""


@runtime_checkable
class WithdrawableSource(X509ContextSource, Protocol):
    """A source whose identity may be taken back before its end."""

    async def withdrawn(self) -> LocalIdentityError:
        """Wait until the identity is withdrawn, or was, and give the reason.

        Raises LocalIdentityError as ``changed``.
        """

    async def changed(self, after_generation: int | None = None) -> X509Context:
        """Wait for a context of a later generation. Raises LocalIdentityError when none can come any more."""


@dataclass(frozen=True, slots=True)
class ConstantSource:
    """Meets X509ContextSource with one context, valid or not: what to present is decided elsewhere."""

    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context
