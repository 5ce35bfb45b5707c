"""Relations with other trust domains, in the store. Each call is part of the caller's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import ConflictError, NotFoundError
from meshtls.server.store.changes import ChangeKind, log_changes
from meshtls.server.store.schema import federation
from meshtls.serverapi.federation import Profile, Relation
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["delete_relation", "find_relation", "insert_relation", "read_relations", "update_relation"]


async def read_relations(tx: AsyncConnection) -> list[Relation]:
    """All of them, ordered by trust domain."""
    return [_relation(row) for row in await tx.execute(select(federation).order_by(federation.c.trust_domain))]


async def find_relation(tx: AsyncConnection, trust_domain: TrustDomain) -> Relation | None:
    """None if there is none."""
    this = select(federation).where(federation.c.trust_domain == str(trust_domain))
    row = (await tx.execute(this)).one_or_none()
    return None if row is None else _relation(row)


async def insert_relation(tx: AsyncConnection, relation: Relation) -> None:
    """Raises ConflictError if there is one with this trust domain."""
    await _note(tx, relation.trust_domain)
    if await find_relation(tx, relation.trust_domain) is not None:
        raise ConflictError(
            f"federation with {relation.trust_domain}: it exists already; update it, or delete it first"
        )
    await tx.execute(insert(federation), _row(relation))


async def update_relation(tx: AsyncConnection, relation: Relation) -> Relation:
    """Replace the relation with this trust domain, and return what it was. Raises NotFoundError."""
    await _note(tx, relation.trust_domain)
    before = await find_relation(tx, relation.trust_domain)
    if before is None:
        raise NotFoundError(f"federation with {relation.trust_domain}: there is none; create it")
    this = federation.c.trust_domain == str(relation.trust_domain)
    await tx.execute(update(federation).where(this).values(**_row(relation)))
    return before


async def delete_relation(tx: AsyncConnection, trust_domain: TrustDomain) -> Relation:
    """Delete the relation, and return what it was. Raises NotFoundError."""
    await _note(tx, trust_domain)
    before = await find_relation(tx, trust_domain)
    if before is None:
        raise NotFoundError(f"federation with {trust_domain}: there is none")
    await tx.execute(delete(federation).where(federation.c.trust_domain == str(trust_domain)))
    return before


async def _note(tx: AsyncConnection, trust_domain: TrustDomain) -> None:
    # Also locks: no other writer changes relations until this transaction ends.
    await log_changes(tx, ChangeKind.FEDERATION, [(str(trust_domain), "")])


def _row(relation: Relation) -> dict[str, Any]:
    return {
        "trust_domain": str(relation.trust_domain),
        "url": relation.url,
        "profile": relation.profile.value,
        "endpoint_id": None if relation.endpoint_id is None else str(relation.endpoint_id),
    }


def _relation(row: Any) -> Relation:
    return Relation(
        trust_domain=TrustDomain(row.trust_domain),
        url=row.url,
        profile=Profile(row.profile),
        endpoint_id=None if row.endpoint_id is None else SpiffeId.parse(row.endpoint_id),
    )
