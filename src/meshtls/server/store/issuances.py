"""The record of issued SVIDs in the store. It is committed before the SVID leaves the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.registration import Issuance
from meshtls.server.store.database import Quick, Step, quick, run_steps
from meshtls.server.store.rows import moment, seconds
from meshtls.server.store.schema import issuances
from meshtls.spiffeid import SpiffeId

__all__ = ["agent_of", "is_recorded", "list_issuances", "prune_issuances", "record_issuances", "record_step"]


_SET_LATER = ("number", "revoked_at", "revocation_reason")
_ISSUANCE = Quick(
    insert(issuances).values({one.name: bindparam(one.name) for one in issuances.c if one.name not in _SET_LATER})
)
_KNOWN = Quick(select(issuances.c.serial).where(issuances.c.serial == bindparam("known")))


async def record_issuances(tx: AsyncConnection, issued: Sequence[Issuance]) -> None:
    """Insert these, all or none: a serial that exists already fails the transaction."""
    await run_steps(tx, [record_step(issued)])


def record_step(issued: Sequence[Issuance]) -> Step:
    """As ``record_issuances``, as a step among others."""
    return Step(_ISSUANCE, [_row(one) for one in issued])


async def is_recorded(tx: AsyncConnection, serial: str) -> bool:
    """Whether there is a record with this serial."""
    return bool(await quick(tx, _KNOWN, [{"known": serial}]))


async def agent_of(tx: AsyncConnection, serial: str) -> SpiffeId | None:
    """The agent that requested the SVID with this serial; None if none did, or there is no record of it."""
    found: str | None = (
        await tx.execute(select(issuances.c.agent_id).where(issuances.c.serial == serial))
    ).scalar_one_or_none()
    return None if found is None else SpiffeId.parse(found)


async def list_issuances(
    tx: AsyncConnection, after: int, limit: int, *, spiffe_id: SpiffeId | None = None, serial: str | None = None
) -> list[Issuance]:
    """A page of up to ``limit`` records, oldest first, with numbers above ``after`` (0 for the first page)."""
    query = select(issuances).where(issuances.c.number > after).order_by(issuances.c.number).limit(limit)
    if spiffe_id is not None:
        query = query.where(issuances.c.spiffe_id == str(spiffe_id))
    if serial is not None:
        query = query.where(issuances.c.serial == serial)
    return [_issuance(row) for row in (await tx.execute(query)).mappings()]


async def prune_issuances(tx: AsyncConnection, ended_before: datetime, most: int) -> None:
    """Delete the records that expired before then, among the ``most`` oldest; later calls delete the rest.

    The order is that of issuance, which is nearly that of expiry. The bound keeps other writers from waiting long.
    """
    oldest = select(issuances.c.number).order_by(issuances.c.number).limit(most).subquery()
    last = select(func.max(oldest.c.number)).scalar_subquery()
    ended = issuances.c.not_after < seconds(ended_before)
    await tx.execute(delete(issuances).where(ended, issuances.c.number <= last))


def _row(one: Issuance) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "serial": one.serial,
        "spiffe_id": str(one.spiffe_id),
        "agent_id": None if one.agent_id is None else str(one.agent_id),
        "entry_id": one.entry_id,
        "server_id": one.server_id,
        "issued_at": seconds(one.issued_at),
        "not_before": seconds(one.not_before),
        "not_after": seconds(one.not_after),
        "authority": one.authority,
        "log_index": one.log_index,
        "below": one.below,
    }


def _issuance(row: Any) -> Issuance:
    return Issuance(
        number=row["number"],
        kind=row["kind"],
        serial=row["serial"],
        spiffe_id=SpiffeId.parse(row["spiffe_id"]),
        agent_id=None if row["agent_id"] is None else SpiffeId.parse(row["agent_id"]),
        entry_id=row["entry_id"],
        server_id=row["server_id"],
        issued_at=moment(row["issued_at"]),
        not_before=moment(row["not_before"]),
        not_after=moment(row["not_after"]),
        authority=row["authority"],
        log_index=row["log_index"],
        below=row["below"],
    )
