"""The audit trail, for administrators."""

from __future__ import annotations

from meshtls.observe.audit import AuditHead, AuditLine
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core, page_size
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import audit

__all__ = ["list_audit"]


@allowed_to(Role.ADMIN)
async def list_audit(core: Core, caller: Caller, after: int = 0, limit: int = 0) -> tuple[list[AuditLine], AuditHead]:
    """A page of the trail, oldest first, of numbers above ``after``; and the head, as it was before the page was read.

    Raises RequestError, StoreError.
    """
    async with core.database.read() as tx:
        head = await audit.read_head(tx, lock=False)
        return await audit.list_audit(tx, after, page_size(limit)), head
