"""Relations with other trust domains, whose bundles the server fetches; for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import TrustBundle
from meshtls.errors import RequestError
from meshtls.server.access import Caller, Role
from meshtls.server.audit import bundle_state
from meshtls.server.core import Core
from meshtls.server.federating import Federation
from meshtls.server.foreign_bundle import check_foreign_bundle
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import bundles, federation
from meshtls.serverapi.federation import Relation, RelationStatus
from meshtls.spiffeid import TrustDomain

__all__ = ["create_relation", "delete_relation", "list_relations", "refresh_relation", "update_relation"]


@allowed_to(Role.ADMIN)
async def create_relation(
    core: Core, caller: Caller, followed: Federation, relation: Relation, bundle: TrustBundle | None = None
) -> RelationStatus:
    """Begin to fetch the bundle of another trust domain. ``bundle``, if given, is set first.

    Raises RequestError, ConflictError, StoreError.
    """
    _check(core, followed, relation.trust_domain)
    _check_bundle(core, relation, bundle)
    async with core.change() as tx:
        await federation.insert_relation(tx, relation)
        replaced = await _set_bundle(tx, bundle)
        domain, before = relation.trust_domain, {"bundle": bundle_state(replaced)} if replaced else None
        act = core.trail.record(caller, "create federation", domain, before=before, after=_state(relation, bundle))
        await core.trail.append(tx, [act])
    return followed.status(relation)


@allowed_to(Role.ADMIN)
async def list_relations(core: Core, caller: Caller, followed: Federation) -> list[RelationStatus]:
    """All relations, those of the server's file among them, ordered by trust domain."""
    return [followed.status(one) for one in followed.relations()]


@allowed_to(Role.ADMIN)
async def update_relation(
    core: Core, caller: Caller, followed: Federation, relation: Relation, bundle: TrustBundle | None = None
) -> RelationStatus:
    """Replace the relation with this trust domain, and its bundle if one is given.

    Raises RequestError, NotFoundError, StoreError.
    """
    _check(core, followed, relation.trust_domain)
    _check_bundle(core, relation, bundle)
    async with core.change() as tx:
        before = await federation.update_relation(tx, relation)
        state, after = _state(before, await _set_bundle(tx, bundle)), _state(relation, bundle)
        act = core.trail.record(caller, "update federation", relation.trust_domain, before=state, after=after)
        await core.trail.append(tx, [act])
    return followed.status(relation)


@allowed_to(Role.ADMIN)
async def delete_relation(
    core: Core, caller: Caller, followed: Federation, trust_domain: TrustDomain, *, keep_bundle: bool = False
) -> None:
    """Fetch the bundle no more, and delete it, so that connections with the other trust domain end.

    ``keep_bundle``: it stays in use until it is deleted. Raises RequestError, NotFoundError, StoreError.
    """
    _check(core, followed, trust_domain)
    async with core.change() as tx:
        before = await federation.delete_relation(tx, trust_domain)
        bundle = None if keep_bundle else await bundles.federated_bundle(tx, trust_domain)
        if bundle is not None:
            await bundles.delete_bundle(tx, trust_domain)
        act = core.trail.record(caller, "delete federation", trust_domain, before=_state(before, bundle))
        await core.trail.append(tx, [act])


@allowed_to(Role.ADMIN)
async def refresh_relation(
    core: Core, caller: Caller, followed: Federation, trust_domain: TrustDomain
) -> RelationStatus:
    """Fetch the bundle now; the status has the reason if that fails. Raises NotFoundError."""
    return await followed.refresh(trust_domain)


def _check(core: Core, followed: Federation, trust_domain: TrustDomain) -> None:
    if trust_domain == core.hub.trust_domain:
        raise RequestError(f"federation with {trust_domain}: wanted another trust domain than this server's own")
    if followed.is_configured(trust_domain):
        raise RequestError(f"federation with {trust_domain}: it is in the server's file; change it there, and restart")


def _check_bundle(core: Core, relation: Relation, bundle: TrustBundle | None) -> None:
    if bundle is None:
        return
    if bundle.trust_domain != relation.trust_domain:
        raise RequestError(
            f"federation with {relation.trust_domain}: wanted its own bundle, got that of {bundle.trust_domain}"
        )
    check_foreign_bundle(bundle, core.hub.trust_domain)


async def _set_bundle(tx: AsyncConnection, bundle: TrustBundle | None) -> TrustBundle | None:
    """Set the bundle, if one is given, and return the one that it replaces."""
    if bundle is None:
        return None
    replaced = await bundles.federated_bundle(tx, bundle.trust_domain)
    await bundles.set_bundle(tx, bundle)
    return replaced


def _state(relation: Relation, bundle: TrustBundle | None) -> Mapping[str, Any]:
    state = {
        "url": relation.url,
        "profile": relation.profile.value,
        "endpoint_id": str(relation.endpoint_id) if relation.endpoint_id else None,
        "bundle": bundle_state(bundle) if bundle else None,
    }
    return {name: value for name, value in state.items() if value is not None}
