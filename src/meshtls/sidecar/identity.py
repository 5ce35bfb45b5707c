"""The sidecar's own identity, held to what its configuration says."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.errors import LocalIdentityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context, X509ContextSource

__all__ = ["NamedSource"]


@dataclass(frozen=True, slots=True)
class NamedSource:
    """An X509ContextSource that gives nothing where ``source`` has another identity than the configured one."""

    source: X509ContextSource
    spiffe_id: SpiffeId

    def snapshot(self) -> X509Context:
        """Raises LocalIdentityError."""
        context = self.source.snapshot()
        found = context.svid.spiffe_id
        if found != self.spiffe_id:
            raise LocalIdentityError(
                f"wanted an SVID of {self.spiffe_id}, got one of {found};"
                " mend spiffe_id in the sidecar's file, or what the CA issues to it"
            )
        return context
