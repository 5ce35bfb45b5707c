"""The bundle of the server's trust domain, for every caller, and those of other trust domains, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import TrustBundle
from meshtls.errors import RequestError
from meshtls.logs import logger
from meshtls.server.access import Caller, Role
from meshtls.server.audit import bundle_state
from meshtls.server.core import Core
from meshtls.server.foreign_bundle import check_foreign_bundle
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import bundles
from meshtls.server.store.changes import lock_writers
from meshtls.spiffeid import TrustDomain

__all__ = ["delete_bundle", "get_bundle", "list_bundles", "set_bundle"]

log = logger("meshtls.server")


@allowed_to(*Role)
async def get_bundle(core: Core, caller: Caller) -> TrustBundle:
    """The bundle of the server's own trust domain."""
    return core.hub.bundle


@allowed_to(Role.ADMIN)
async def list_bundles(core: Core, caller: Caller) -> list[TrustBundle]:
    """The bundles of other trust domains. Raises StoreError."""
    async with core.database.read() as tx:
        return await bundles.federated_bundles(tx)


@allowed_to(Role.ADMIN)
async def set_bundle(core: Core, caller: Caller, bundle: TrustBundle) -> None:
    """Set the bundle of another trust domain. Raises RequestError, StoreError."""
    _check_foreign(core, bundle.trust_domain)
    for line in bundle.unusable:
        log.warning("bundle set by an administrator: %s", line)
    check_foreign_bundle(bundle, core.hub.trust_domain)
    async with core.change() as tx:
        before = await _state(tx, bundle.trust_domain)
        await bundles.set_bundle(tx, bundle)
        domain, after = bundle.trust_domain, bundle_state(bundle)
        await core.trail.append(tx, [core.trail.record(caller, "set bundle", domain, before=before, after=after)])


@allowed_to(Role.ADMIN)
async def delete_bundle(core: Core, caller: Caller, trust_domain: TrustDomain) -> None:
    """Delete the bundle of another trust domain. Raises RequestError, NotFoundError, StoreError."""
    _check_foreign(core, trust_domain)
    async with core.change() as tx:
        before = await _state(tx, trust_domain)
        await bundles.delete_bundle(tx, trust_domain)
        await core.trail.append(tx, [core.trail.record(caller, "delete bundle", trust_domain, before=before)])


async def _state(tx: AsyncConnection, trust_domain: TrustDomain) -> Mapping[str, Any] | None:
    """The present bundle, which no other writer changes until ``tx`` ends; None if there is none."""
    await lock_writers(tx)
    present = await bundles.federated_bundle(tx, trust_domain)
    return bundle_state(present) if present else None


def _check_foreign(core: Core, trust_domain: TrustDomain) -> None:
    if trust_domain == core.hub.trust_domain:
        raise RequestError(f"trust domain {trust_domain}: its bundle is this server's own; the servers maintain it")
