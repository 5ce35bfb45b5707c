"""Agents and join tokens, for administrators; and an agent's renewal of its own SVID."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import NotFoundError, RequestError
from meshtls.registration import AgentRecord, Entry, Selector, agent_id
from meshtls.server.access import Caller, Role
from meshtls.server.audit import agent_state, entry_state
from meshtls.server.core import Core, lifetime, page_size
from meshtls.server.operations.permission import allowed_to
from meshtls.server.signing import Signed
from meshtls.server.store import agents, entries, tokens
from meshtls.server.store.changes import lock_writers
from meshtls.server.store.revocations import AGENT_BANNED
from meshtls.serverapi.values import JoinToken, Subject, SubjectKind
from meshtls.spiffeid import SpiffeId

__all__ = ["ban_agent", "create_join_token", "evict_agent", "get_agent", "list_agents", "renew_agent"]

_TOKEN_LIFE = timedelta(minutes=10)
_TOKEN_BYTES = 32


@allowed_to(Role.ADMIN)
async def create_join_token(core: Core, caller: Caller, ttl: int = 0, alias: SpiffeId | None = None) -> JoinToken:
    """A new token. ``ttl`` is in seconds, 0 for ten minutes; ``alias`` is an ID for the node, a parent for entries.

    Raises RequestError, ConflictError, StoreError.
    """
    if not core.config.join_token:
        raise RequestError("join_token: this node attestor is not configured here")
    expires_at = core.clock.now() + lifetime(ttl, _TOKEN_LIFE)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    agent = agent_id(core.hub.trust_domain, "join_token", str(uuid.uuid4()))
    aliases = [] if alias is None else [_alias_entry(core, agent, alias)]
    async with core.change() as tx:
        made = await entries.insert_entries(tx, aliases)
        await tokens.add_token(tx, token, agent, expires_at)
        after = {"expires_at": int(expires_at.timestamp()), "aliases": list(map(entry_state, made))}
        await core.trail.append(tx, [core.trail.record(caller, "create join token", agent, after=after)])
    return JoinToken(token, agent, expires_at)


@allowed_to(Role.ADMIN)
async def get_agent(core: Core, caller: Caller, spiffe_id: SpiffeId) -> AgentRecord:
    """The agent with this ID. Raises NotFoundError, StoreError."""
    async with core.database.read() as tx:
        agent = await agents.find_agent(tx, spiffe_id)
    if agent is None:
        raise NotFoundError(f"agent {spiffe_id}: no agent has this ID")
    return agent


@allowed_to(Role.ADMIN)
async def list_agents(
    core: Core, caller: Caller, after: str = "", limit: int = 0, *, only_banned: bool = False
) -> tuple[list[AgentRecord], str]:
    """A page of agents, ordered by ID, and the ``after`` of the next page; empty for the last page.

    ``limit`` of 0 means the largest page. Raises RequestError, StoreError.
    """
    size = page_size(limit)
    async with core.database.read() as tx:
        page = await agents.list_agents(tx, after, size, banned=only_banned or None)
    return page, str(page[-1].spiffe_id) if len(page) == size else ""


@allowed_to(Role.ADMIN)
async def ban_agent(core: Core, caller: Caller, spiffe_id: SpiffeId) -> None:
    """Refuse the agent from now on, and revoke all that it has; its open streams are woken to end.

    Raises NotFoundError, StoreError.
    """
    async with core.change() as tx:
        before = await _known(tx, spiffe_id)
        await agents.ban_agent(tx, spiffe_id)
        revoked = await core.revoking.revoke(tx, [Subject(SubjectKind.AGENT, str(spiffe_id))], AGENT_BANNED)
        after = {**before, "banned": True}
        told = {"banned": True, "reason": AGENT_BANNED, "svids": len(revoked)}
        acts = [
            core.trail.record(
                caller, "revoke agent", spiffe_id, before={"banned": before.get("banned", False)}, after=told
            ),
            core.trail.record(caller, "ban agent", spiffe_id, before=before, after=after),
        ]
        await core.trail.append(tx, acts)


@allowed_to(Role.ADMIN)
async def evict_agent(core: Core, caller: Caller, spiffe_id: SpiffeId) -> None:
    """Delete the agent's record; its open streams are woken to end. Raises NotFoundError, StoreError."""
    async with core.change() as tx:
        before = await _known(tx, spiffe_id)
        await agents.evict_agent(tx, spiffe_id)
        await core.trail.append(tx, [core.trail.record(caller, "evict agent", spiffe_id, before=before)])


@allowed_to(Role.AGENT)
async def renew_agent(core: Core, caller: Caller, csr: bytes) -> Signed:
    """The agent's next certificate, recorded; the current one stays valid until the next is first used.

    Raises RequestError, ConfigError, StoreError.
    """
    agent, _ = caller.as_agent()
    me = agent.spiffe_id
    signed = core.signing.x509(me, csr, core.config.agent_ttl, agent_id=me)
    async with core.database.write() as tx:
        await agents.renew_agent(tx, me, signed.record.serial, signed.record.not_after)
        await core.ledger.record(tx, [(core.trail.record(caller, "renew agent", me), [signed])])
    core.ledger.committed([signed])
    return signed


async def _known(tx: AsyncConnection, spiffe_id: SpiffeId) -> Mapping[str, Any]:
    """The agent's present state, which no other writer changes until ``tx`` ends."""
    await lock_writers(tx)
    agent = await agents.find_agent(tx, spiffe_id)
    return {} if agent is None else agent_state(agent)


def _alias_entry(core: Core, agent: SpiffeId, alias: SpiffeId) -> Entry:
    if not alias.member_of(core.hub.trust_domain):
        raise RequestError(f"{alias}: wanted a name in trust domain {core.hub.trust_domain}")
    # No workload has a selector of this type: the entry stands for the node, and other entries can have it as parent.
    return Entry(spiffe_id=alias, parent_id=agent, selectors=(Selector("spiffe_id", str(agent)),))
