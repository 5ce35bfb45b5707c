"""The change log. A sync reads it, so that its cost grows with the changes and not with the entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.server.store.schema import changes, counters
from meshtls.spiffeid import TrustDomain

__all__ = [
    "Change",
    "ChangeKind",
    "bundle_sequence",
    "changes_since",
    "current_revision",
    "lock_writers",
    "log_changes",
    "note_bundle_change",
    "oldest_change",
    "prune_changes",
]


class ChangeKind(Enum):
    """The kind of thing that changed."""

    ENTRY = "entry"
    AGENT = "agent"
    BUNDLE = "bundle"
    REVOCATION = "revocation"
    CRL = "crl"
    FEDERATION = "federation"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the store. ``key`` is an entry's id, an agent's SPIFFE ID, a trust domain, what was revoked or a
    CRL's issuer.

    ``subject`` is a changed entry's SPIFFE ID.
    """

    revision: int
    kind: ChangeKind
    key: str
    subject: str = ""


async def log_changes(tx: AsyncConnection, kind: ChangeKind, changed: Iterable[tuple[str, str]]) -> int:
    """Number these (key, subject) in order and return the first number. Other writers wait until ``tx`` ends."""
    pairs = list(changed)
    first = await _advance(tx, len(pairs)) - len(pairs) + 1
    rows = [
        {"revision": first + place, "kind": kind.value, "key": key, "subject": subject}
        for place, (key, subject) in enumerate(pairs)
    ]
    if rows:
        await tx.execute(insert(changes), rows)
    return first


async def lock_writers(tx: AsyncConnection) -> None:
    """Have other writers wait until ``tx`` ends: if it calls this first, it sees rows that none of them changes."""
    await _advance(tx, 0)


async def current_revision(tx: AsyncConnection) -> int:
    """The revision of the latest change, 0 before the first."""
    return await _counter(tx, "log")


async def note_bundle_change(tx: AsyncConnection, trust_domain: TrustDomain) -> int:
    """Log a change of our own bundle in this transaction, and return its new sequence."""
    revision = await log_changes(tx, ChangeKind.BUNDLE, [(str(trust_domain), "")])
    await tx.execute(update(counters).where(counters.c.name == "bundle").values(value=revision))
    return revision


async def bundle_sequence(tx: AsyncConnection) -> int:
    """The revision of our own bundle's last change."""
    return await _counter(tx, "bundle")


async def changes_since(tx: AsyncConnection, revision: int) -> list[Change]:
    """All changes with a higher revision, in order."""
    rows = await tx.execute(select(changes).where(changes.c.revision > revision).order_by(changes.c.revision))
    return [Change(row.revision, ChangeKind(row.kind), row.key, row.subject) for row in rows]


async def oldest_change(tx: AsyncConnection) -> int | None:
    """The lowest revision in the log, None where it is empty."""
    oldest: int | None = (await tx.execute(select(func.min(changes.c.revision)))).scalar_one()
    return oldest


async def prune_changes(tx: AsyncConnection, keep: int) -> None:
    """Delete all but the newest ``keep``. An agent whose revision is older than those is sent everything again."""
    limit = select(counters.c.value - keep).where(counters.c.name == "log").scalar_subquery()
    await tx.execute(delete(changes).where(changes.c.revision <= limit))


async def _advance(tx: AsyncConnection, count: int) -> int:
    """Add to the number of the last change, and return it. The counter's row is locked until ``tx`` ends."""
    bump = update(counters).where(counters.c.name == "log").values(value=counters.c.value + count)
    last: int = (await tx.execute(bump.returning(counters.c.value))).scalar_one()
    return last


async def _counter(tx: AsyncConnection, name: str) -> int:
    value: int = (await tx.execute(select(counters.c.value).where(counters.c.name == name))).scalar_one()
    return value
