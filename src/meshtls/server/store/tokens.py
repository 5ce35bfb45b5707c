"""Join tokens in the store, as hashes. A token is valid once, until it expires."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.server.store.rows import seconds
from meshtls.server.store.schema import join_tokens
from meshtls.spiffeid import SpiffeId

__all__ = ["add_token", "consume_token", "is_usable_token", "prune_tokens"]


async def add_token(tx: AsyncConnection, token: str, agent: SpiffeId, expires_at: datetime) -> None:
    """Store a token. Until ``expires_at`` a node can attest with it, once, as this agent."""
    row = {"token_hash": _hash(token), "agent_id": str(agent), "expires_at": seconds(expires_at)}
    await tx.execute(insert(join_tokens), row)


async def is_usable_token(tx: AsyncConnection, token: str, now: datetime) -> bool:
    """Whether ``consume_token`` would accept it now. It only reads, so that a guess does not occupy a writer."""
    found = await tx.execute(select(join_tokens.c.token_hash).where(_usable(token, now)))
    return found.first() is not None


async def consume_token(tx: AsyncConnection, token: str, now: datetime) -> SpiffeId | None:
    """Mark the token as used, and return its agent's ID; None for a token that is unknown, used or expired.

    One statement finds and marks it, so of two concurrent attempts only one succeeds.
    """
    mark = update(join_tokens).where(_usable(token, now)).values(used_at=seconds(now))
    agent = (await tx.execute(mark.returning(join_tokens.c.agent_id))).scalar_one_or_none()
    return None if agent is None else SpiffeId.parse(agent)


async def prune_tokens(tx: AsyncConnection, now: datetime) -> None:
    """Delete expired tokens, used or not."""
    await tx.execute(delete(join_tokens).where(join_tokens.c.expires_at <= seconds(now)))


def _usable(token: str, now: datetime) -> ColumnElement[bool]:
    unused = join_tokens.c.used_at.is_(None) & (join_tokens.c.expires_at > seconds(now))
    return (join_tokens.c.token_hash == _hash(token)) & unused


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
