"""The authorities of the servers, for administrators; and an agent's confirmation that it has a bundle with them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.authority_states import PUBLISHED, AuthorityState
from meshtls.errors import RequestError
from meshtls.scalars import shown
from meshtls.server.access import Caller, Role
from meshtls.server.authorities import KINDS
from meshtls.server.authority_choice import revocable_at
from meshtls.server.core import Core
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import agents, authorities
from meshtls.server.store.authorities import AuthorityRecord
from meshtls.serverapi.values import AuthorityStatus, Holders

__all__ = [
    "activate_authority",
    "confirm_bundle",
    "list_authorities",
    "prepare_authority",
    "revoke_authority",
    "taint_authority",
]


@allowed_to(Role.ADMIN)
async def list_authorities(core: Core, caller: Caller) -> list[AuthorityStatus]:
    """The authorities of all servers, in the order of their publication. Raises StoreError."""
    now = core.clock.now()
    async with core.database.read() as tx:
        return [await _status(core, tx, record, now) for record in await authorities.list_authorities(tx)]


@allowed_to(Role.ADMIN)
async def prepare_authority(core: Core, caller: Caller, kind: str) -> AuthorityStatus:
    """Make and publish this server's next authority. Raises ConflictError, ConfigError, RequestError, StoreError."""
    return await _of(core, await core.authorities.prepare(_checked(kind), caller=caller))


@allowed_to(Role.ADMIN)
async def activate_authority(
    core: Core, caller: Caller, kind: str, wanted: str = "", *, force: bool = False
) -> AuthorityStatus:
    """Sign with this server's prepared authority. Raises NotFoundError, RequestError, StoreError."""
    return await _of(core, await core.authorities.activate(_checked(kind), wanted, force=force, caller=caller))


@allowed_to(Role.ADMIN)
async def taint_authority(core: Core, caller: Caller, kind: str, wanted: str = "") -> AuthorityStatus:
    """Have the SVIDs of an old authority replaced now. Raises NotFoundError, RequestError, StoreError."""
    return await _of(core, await core.authorities.taint(_checked(kind), wanted, caller=caller))


@allowed_to(Role.ADMIN)
async def revoke_authority(
    core: Core, caller: Caller, kind: str, wanted: str = "", *, force: bool = False
) -> AuthorityStatus:
    """Take an authority out of the bundle. Raises NotFoundError, RequestError, StoreError."""
    return await _of(core, await core.authorities.revoke(_checked(kind), wanted, force=force, caller=caller))


@allowed_to(Role.AGENT)
async def confirm_bundle(core: Core, caller: Caller, sequence: int) -> None:
    """The agent and its workloads have the bundle with this sequence. Raises RequestError, StoreError."""
    agent, _ = caller.as_agent()
    newest = core.hub.bundle.sequence or 0
    if not 0 <= sequence <= newest:
        raise RequestError(f"bundle {sequence}: wanted the sequence of a bundle that was sent, at most {newest}")
    if sequence > agent.bundle_seen:
        async with core.database.write() as tx:
            await agents.note_bundle_seen(tx, agent.spiffe_id, sequence)


async def _of(core: Core, record: AuthorityRecord) -> AuthorityStatus:
    async with core.database.read() as tx:
        return await _status(core, tx, record, core.clock.now())


async def _status(core: Core, tx: AsyncConnection, record: AuthorityRecord, now: datetime) -> AuthorityStatus:
    held: tuple[Holders, ...] = ()
    if record.state in PUBLISHED:
        held = tuple(await authorities.holders(tx, core.hub.trust_domain, record, now))
    prepared = record.state is AuthorityState.PREPARED
    waiting = await agents.without_bundle(tx, record.revision, now) if prepared else []
    return AuthorityStatus(
        kind=record.kind,
        id=record.id,
        state=record.state.name,
        server_id=record.server_id,
        created_at=record.created_at if record.created_at.timestamp() else None,
        changed_at=record.changed_at if record.changed_at.timestamp() else None,
        ends_at=record.ends_at,
        leaves_at=record.published.expires_at,
        holders=held,
        waiting_for=tuple(waiting),
        revocable_at=revocable_at(record, held, now),
    )


def _checked(kind: str) -> str:
    if kind not in KINDS:
        raise RequestError(f"kind of authority: wanted {' or '.join(KINDS)}, got {shown(kind)}")
    return kind
