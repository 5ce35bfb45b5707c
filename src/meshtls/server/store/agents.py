"""Attested agents in the store. Each call is part of the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import AccessError, NotFoundError
from meshtls.registration import AgentRecord
from meshtls.server.store.changes import ChangeKind, log_changes
from meshtls.server.store.rows import agent_of, agent_row, seconds
from meshtls.server.store.schema import agents
from meshtls.spiffeid import SpiffeId

__all__ = [
    "AgentCounts",
    "ban_agent",
    "count_agents",
    "evict_agent",
    "find_agent",
    "list_agents",
    "note_bundle_seen",
    "note_serial_in_use",
    "put_agent",
    "renew_agent",
    "without_bundle",
]


class AgentCounts(NamedTuple):
    """How many agents there are: ``expired`` ones have to attest again, and ``banned`` ones may not."""

    attested: int
    expired: int
    banned: int


async def put_agent(tx: AsyncConnection, agent: AgentRecord) -> None:
    """Insert or replace an agent's record at its attestation. Raises AccessError if the agent is banned."""
    await log_changes(tx, ChangeKind.AGENT, [(str(agent.spiffe_id), "")])
    present = await find_agent(tx, agent.spiffe_id)
    if present is not None and present.banned:
        raise AccessError(f"agent {agent.spiffe_id} is banned; evict it before it may attest again")
    await tx.execute(delete(agents).where(_is(agent.spiffe_id)))
    await tx.execute(insert(agents), agent_row(agent))


async def find_agent(tx: AsyncConnection, spiffe_id: SpiffeId) -> AgentRecord | None:
    row = (await tx.execute(select(agents).where(_is(spiffe_id)))).mappings().one_or_none()
    return None if row is None else agent_of(row)


async def list_agents(tx: AsyncConnection, after: str, limit: int, *, banned: bool | None = None) -> list[AgentRecord]:
    """A page of up to ``limit`` agents, ordered by ID, of those after ``after`` ("" for the first page)."""
    query = select(agents).where(agents.c.spiffe_id > after).order_by(agents.c.spiffe_id).limit(limit)
    if banned is not None:
        query = query.where(agents.c.banned == banned)
    return [agent_of(row) for row in (await tx.execute(query)).mappings()]


async def count_agents(tx: AsyncConnection, now: datetime) -> AgentCounts:
    """All agents by their state now, in one pass over them."""
    expired = agents.c.not_after <= seconds(now)
    found = await tx.execute(select(agents.c.banned, expired, func.count()).group_by(agents.c.banned, expired))
    counts = {(bool(banned), bool(over)): count for banned, over, count in found}
    banned = counts.get((True, False), 0) + counts.get((True, True), 0)
    return AgentCounts(counts.get((False, False), 0), counts.get((False, True), 0), banned)


async def renew_agent(tx: AsyncConnection, spiffe_id: SpiffeId, serial: str, not_after: datetime) -> None:
    """Accept the agent's next certificate as well as the current one. Raises NotFoundError, also if it is banned."""
    admitted = _is(spiffe_id) & agents.c.banned.is_(False)
    changed = update(agents).where(admitted).values(next_serial=serial, not_after=seconds(not_after))
    _check_found(spiffe_id, (await tx.execute(changed)).rowcount)


async def note_serial_in_use(tx: AsyncConnection, spiffe_id: SpiffeId, serial: str) -> None:
    """The agent has used its next certificate: the one before is no longer accepted."""
    mine = _is(spiffe_id) & (agents.c.next_serial == serial)
    await tx.execute(update(agents).where(mine).values(serial=serial, next_serial=None))


async def note_bundle_seen(tx: AsyncConnection, spiffe_id: SpiffeId, sequence: int) -> None:
    """The agent has the bundle of this sequence. A lower number than the present one, of a late call, is ignored."""
    mine = _is(spiffe_id) & (agents.c.bundle_seen < sequence)
    await tx.execute(update(agents).where(mine).values(bundle_seen=sequence))


async def without_bundle(tx: AsyncConnection, sequence: int, now: datetime) -> list[SpiffeId]:
    """The agents with a valid certificate that have not confirmed the bundle of this sequence, or a newer one.

    Not those that are banned. Another one has to attest again, which gives it the newest bundle.
    """
    live = agents.c.banned.is_(False) & (agents.c.not_after > seconds(now)) & (agents.c.bundle_seen < sequence)
    found = await tx.execute(select(agents.c.spiffe_id).where(live).order_by(agents.c.spiffe_id))
    return [SpiffeId.parse(name) for name in found.scalars()]


async def ban_agent(tx: AsyncConnection, spiffe_id: SpiffeId) -> None:
    """Refuse the agent from now on, including a new attestation. Raises NotFoundError."""
    await log_changes(tx, ChangeKind.AGENT, [(str(spiffe_id), "")])
    _check_found(spiffe_id, (await tx.execute(update(agents).where(_is(spiffe_id)).values(banned=True))).rowcount)


async def evict_agent(tx: AsyncConnection, spiffe_id: SpiffeId) -> None:
    """Delete the agent's record: it must attest again, and may. Raises NotFoundError."""
    await log_changes(tx, ChangeKind.AGENT, [(str(spiffe_id), "")])
    _check_found(spiffe_id, (await tx.execute(delete(agents).where(_is(spiffe_id)))).rowcount)


def _is(spiffe_id: SpiffeId) -> Any:
    return agents.c.spiffe_id == str(spiffe_id)


def _check_found(spiffe_id: SpiffeId, count: int) -> None:
    if not count:
        raise NotFoundError(f"agent {spiffe_id}: no agent has this ID")
