"""Where a sidecar's file says that its identity comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from meshtls.sidecar.settings import SidecarConfig
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509ContextSource
from meshtls.svid.x509 import X509Svid
from meshtls.workload.x509_source import Picker, X509Source

__all__ = ["source_of"]


@asynccontextmanager
async def source_of(config: SidecarConfig) -> AsyncIterator[X509ContextSource]:
    """The source, with its first SVID. Raises ConfigError without an address, LocalIdentityError without an SVID."""
    async with X509Source(config.workload_api, picker=_named(config.spiffe_id)) as followed:
        yield followed


def _named(spiffe_id: SpiffeId) -> Picker:
    """Of several identities, the one that the file names; any other is no identity of this sidecar."""

    def pick(svids: Sequence[X509Svid]) -> X509Svid:
        for svid in svids:
            if svid.spiffe_id == spiffe_id:
                return svid
        given = ", ".join(str(svid.spiffe_id) for svid in svids)
        raise LookupError(f"wanted an SVID of {spiffe_id}, got {given}; make an entry for it, or mend spiffe_id")

    return pick
