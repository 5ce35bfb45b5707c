"""Registration entries, for administrators."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import NotFoundError, RequestError
from meshtls.logs import logger
from meshtls.registration import Entry, EntryFilter
from meshtls.server.access import Caller, Role
from meshtls.server.audit import entry_state
from meshtls.server.core import Core, page_size
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import entries, revocations
from meshtls.server.store.changes import lock_writers
from meshtls.server.store.revocations import ENTRY_DELETED
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId

__all__ = ["count_entries", "create_entries", "delete_entries", "get_entry", "list_entries", "update_entries"]

log = logger("meshtls.server")


@allowed_to(Role.ADMIN)
async def create_entries(core: Core, caller: Caller, new: Sequence[Entry]) -> list[Entry]:
    """Create all or none; returns the entries as stored. Raises RequestError, ConflictError, StoreError."""
    for entry in new:
        _check(core, entry)
    async with core.change() as tx:
        created = await entries.insert_entries(tx, new)
        acts = [core.trail.record(caller, "create entry", one.spiffe_id, after=entry_state(one)) for one in created]
        await core.trail.append(tx, acts)
        return created


@allowed_to(Role.ADMIN)
async def get_entry(core: Core, caller: Caller, key: str) -> Entry:
    """The entry with this id. Raises NotFoundError, StoreError."""
    async with core.database.read() as tx:
        found = await entries.get_entries(tx, [key])
    if not found:
        raise NotFoundError(f"entry {key}: no entry has this id")
    return found[0]


@allowed_to(Role.ADMIN)
async def list_entries(
    core: Core, caller: Caller, wanted: EntryFilter, after: str = "", limit: int = 0
) -> tuple[list[Entry], str]:
    """A page of the matching entries, ordered by id, and the ``after`` of the next page; empty for the last page.

    ``limit`` of 0 means the largest page. Raises RequestError, StoreError.
    """
    size = page_size(limit)
    async with core.database.read() as tx:
        page = await entries.list_entries(tx, wanted, after, size)
    return page, page[-1].id if len(page) == size else ""


@allowed_to(Role.ADMIN)
async def update_entries(core: Core, caller: Caller, changed: Collection[Entry]) -> list[Entry]:
    """Replace the entries with these ids, all or none. A revision above 0 must be the entry's current one.

    Where the SPIFFE ID or the parent changes, or an entry is no downstream server's any more, what was issued for it
    before is revoked.

    Raises RequestError, NotFoundError, ConflictError, StoreError.
    """
    for entry in changed:
        _check(core, entry)
    async with core.change() as tx:
        before = await _present(tx, [entry.id for entry in changed])
        updated = [await entries.update_entry(tx, entry) for entry in changed]
        moved = [one.id for one in updated if _is_moved(before[one.id], one)]
        await _revoke(core, caller, tx, moved, x509.ReasonFlags.affiliation_changed.name)
        acts = [
            core.trail.record(
                caller, "update entry", one.spiffe_id, before=entry_state(before[one.id]), after=entry_state(one)
            )
            for one in updated
        ]
        await core.trail.append(tx, acts)
        return updated


@allowed_to(Role.ADMIN)
async def delete_entries(core: Core, caller: Caller, ids: Collection[str]) -> None:
    """Delete all or none, and revoke what was issued for them. Raises NotFoundError, StoreError."""
    async with core.change() as tx:
        before = await _present(tx, ids)
        await entries.delete_entries(tx, ids)
        await _revoke(core, caller, tx, list(before), ENTRY_DELETED)
        await revocations.unblock(tx, [Subject(SubjectKind.ENTRY, key) for key in before])
        acts = [
            core.trail.record(caller, "delete entry", one.spiffe_id, before=entry_state(one)) for one in before.values()
        ]
        await core.trail.append(tx, acts)


@allowed_to(Role.ADMIN)
async def count_entries(core: Core, caller: Caller, wanted: EntryFilter) -> int:
    """The number of matching entries. Raises StoreError."""
    async with core.database.read() as tx:
        return await entries.count_entries(tx, wanted)


def _is_moved(before: Entry, after: Entry) -> bool:
    """Whether what was issued for it is not what it may have now. A downstream server's CA is no workload's."""
    return _holder(before) != _holder(after) or (before.downstream and not after.downstream)


async def _revoke(core: Core, caller: Caller, tx: AsyncConnection, ids: Sequence[str], reason: str) -> None:
    if not ids:
        return
    revoked = await core.revoking.revoke(tx, [Subject(SubjectKind.ENTRY, key) for key in ids], reason)
    if revoked:
        after = {"reason": reason, "svids": len(revoked), "entries": len(ids)}
        await core.trail.append(tx, [core.trail.record(caller, "revoke entry", ids[0], after=after)])


def _holder(entry: Entry) -> tuple[SpiffeId, SpiffeId]:
    return entry.spiffe_id, entry.parent_id


async def _present(tx: AsyncConnection, ids: Collection[str]) -> dict[str, Entry]:
    """The entries with these ids, which no other writer changes until ``tx`` ends."""
    await lock_writers(tx)
    return {one.id: one for one in await entries.get_entries(tx, sorted(set(ids)))}


def _check(core: Core, entry: Entry) -> None:
    if not entry.spiffe_id.member_of(core.hub.trust_domain):
        raise RequestError(f"{entry.spiffe_id}: this server registers for {core.hub.trust_domain} only")
    now = core.clock.now()
    if entry.expires_at is not None and entry.expired(now):
        raise RequestError(
            f"{entry.spiffe_id}: expires_at: wanted a time in the future, as an expired entry is deleted at once,"
            f" got {entry.expires_at:%Y-%m-%dT%H:%M:%SZ}; our clock says {now:%Y-%m-%dT%H:%M:%SZ}"
        )
    full = core.config.ca_ttl / 2  # the intermediate is renewed when it has this much left
    if entry.x509_svid_ttl > full.total_seconds():
        log.warning(
            "entry of %s: x509_svid_ttl of %d s is more than half of ca_ttl (%d s): an SVID expires"
            " with the certificate that signed it, which may have only that half left",
            entry.spiffe_id,
            entry.x509_svid_ttl,
            full.total_seconds(),
        )
