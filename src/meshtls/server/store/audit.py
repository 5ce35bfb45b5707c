"""The audit trail in the store. Each call is part of the caller's transaction; records are only inserted and pruned."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.observe.audit import AuditHead, AuditLine, chained
from meshtls.server.store.database import Quick, Step
from meshtls.server.store.schema import audit, audit_state

__all__ = ["append_steps", "list_audit", "prune_audit", "read_head"]


_ADVANCE = Quick(
    update(audit_state)
    .where((audit_state.c.number == bindparam("before")) & (audit_state.c.head == bindparam("head_before")))
    .values(number=bindparam("after"), head=bindparam("head_after"))
    .returning(audit_state.c.id)
)
_LINE = Quick(insert(audit))


def append_steps(head: AuditHead, records: Sequence[bytes]) -> tuple[AuditHead, list[Step]]:
    """Append the records on the condition that the head is this one. Returns the head afterwards, and the steps."""
    lines, previous = [], head.hash
    for at, record in enumerate(records, 1):
        previous = chained(previous, record)
        lines.append({"number": head.number + at, "record": record.decode(), "hash": previous})
    after = AuditHead(head.number + len(lines), previous)
    row = {"before": head.number, "head_before": head.hash, "after": after.number, "head_after": after.hash}
    return after, [Step(_ADVANCE, [row], condition=True), Step(_LINE, lines)]


async def read_head(tx: AsyncConnection, *, lock: bool = True) -> AuditHead:
    """The present head; with ``lock``, it stays so until the transaction ends."""
    query = select(audit_state)
    row = (await tx.execute(query.with_for_update() if lock else query)).one()
    return AuditHead(row.number, row.head)


async def list_audit(tx: AsyncConnection, after: int, limit: int) -> list[AuditLine]:
    """A page of records, oldest first, with numbers above ``after``."""
    query = select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(limit)
    return [AuditLine(row.number, row.record.encode(), row.hash) for row in await tx.execute(query)]


async def prune_audit(tx: AsyncConnection, keep: int, most: int) -> int:
    """Delete the oldest records, at most ``most``, but the newest ``keep``; returns the number of the last deleted."""
    last: int = (await tx.execute(select(audit_state.c.number))).scalar_one() - keep
    if last <= 0:
        return 0
    first: int | None = (await tx.execute(select(func.min(audit.c.number)))).scalar_one()
    if first is None or first > last:
        return 0
    end = min(last, first + most - 1)
    await tx.execute(delete(audit).where(audit.c.number <= end))
    return end
