"""Registration entries in the store. Each call is part of the caller's transaction."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import ConflictError, NotFoundError
from meshtls.registration import Entry, EntryFilter
from meshtls.server.store.changes import ChangeKind, lock_writers, log_changes
from meshtls.server.store.rows import entry_of, entry_row, likeness, seconds, selector_text
from meshtls.server.store.schema import entries

__all__ = [
    "all_entries",
    "count_entries",
    "delete_entries",
    "end_entries",
    "get_entries",
    "insert_entries",
    "list_entries",
    "next_expiry",
    "update_entry",
]

_CHUNK = 500
_PAGE = 5000
_EVERYTHING = EntryFilter()


async def insert_entries(tx: AsyncConnection, new: Sequence[Entry]) -> list[Entry]:
    """Insert these, all or none, and return them with id and revision. Raises ConflictError for one that exists."""
    ids = [str(uuid.uuid4()) for _ in new]
    changed = [(key, str(entry.spiffe_id)) for key, entry in zip(ids, new, strict=True)]
    first = await log_changes(tx, ChangeKind.ENTRY, changed)
    kept = [
        replace(entry, id=key, revision=number, created=number)
        for number, (key, entry) in enumerate(zip(ids, new, strict=True), first)
    ]
    await _check_unlike(tx, kept)
    if kept:
        await tx.execute(insert(entries), [entry_row(entry) for entry in kept])
    return kept


async def update_entry(tx: AsyncConnection, entry: Entry) -> Entry:
    """Replace the entry with this id, keeping its creation revision. A ``revision`` above 0 must be the current one.

    Raises NotFoundError, and ConflictError if the entry was changed meanwhile or now equals another.
    """
    changed = {(entry.id, str(entry.spiffe_id))}
    for old in await get_entries(tx, [entry.id]):
        changed.add((old.id, str(old.spiffe_id)))
    first = await log_changes(tx, ChangeKind.ENTRY, sorted(changed))
    found = await get_entries(tx, [entry.id])
    if not found:
        raise NotFoundError(f"entry {entry.id}: no entry has this id")
    [present] = found
    if entry.revision and entry.revision != present.revision:
        raise ConflictError(
            f"entry {entry.id}: it was changed to revision {present.revision} since you read {entry.revision};"
            " read it again and repeat your change"
        )
    kept = replace(entry, revision=first + len(changed) - 1, created=present.created)
    await _check_unlike(tx, [kept])
    await tx.execute(update(entries).where(entries.c.id == kept.id).values(entry_row(kept)))
    return kept


async def delete_entries(tx: AsyncConnection, ids: Iterable[str]) -> None:
    """Delete these, all or none. Raises NotFoundError for one that does not exist."""
    wanted = list(dict.fromkeys(ids))
    found = {entry.id: entry for entry in await get_entries(tx, wanted)}
    missing = [key for key in wanted if key not in found]
    if missing:
        raise NotFoundError(f"entry {missing[0]}: no entry has this id")
    await log_changes(tx, ChangeKind.ENTRY, [(key, str(found[key].spiffe_id)) for key in wanted])
    for chunk in _chunks(wanted):
        await tx.execute(delete(entries).where(entries.c.id.in_(chunk)))


async def get_entries(tx: AsyncConnection, ids: Iterable[str]) -> list[Entry]:
    """The entries with these ids that exist, in no order."""
    found = []
    for chunk in _chunks(list(ids)):
        rows = (await tx.execute(select(entries).where(entries.c.id.in_(chunk)))).mappings()
        found += [entry_of(row) for row in rows]
    return found


async def list_entries(tx: AsyncConnection, wanted: EntryFilter, after: str, limit: int) -> list[Entry]:
    """A page of up to ``limit`` matching entries, ordered by id, of those after ``after`` ("" for the first page)."""
    query = _filtered(select(entries), wanted).where(entries.c.id > after).order_by(entries.c.id).limit(limit)
    return [entry_of(row) for row in (await tx.execute(query)).mappings()]


async def count_entries(tx: AsyncConnection, wanted: EntryFilter) -> int:
    count: int = (await tx.execute(_filtered(select(func.count()).select_from(entries), wanted))).scalar_one()
    return count


async def all_entries(tx: AsyncConnection) -> AsyncIterator[Entry]:
    """Every entry, streamed: their rows are not held in memory at once."""
    last = ""
    while page := await list_entries(tx, _EVERYTHING, last, _PAGE):
        for entry in page:
            yield entry
        last = page[-1].id


async def end_entries(tx: AsyncConnection, now: datetime) -> int:
    """Delete expired entries, and return their number."""
    over = entries.c.expires_at <= seconds(now)
    if not (await tx.execute(select(exists().where(over)))).scalar_one():
        return 0
    await lock_writers(tx)  # so that no other server deletes or extends these entries meanwhile
    rows = await tx.execute(delete(entries).where(over).returning(entries.c.id, entries.c.spiffe_id))
    ended = [(row.id, row.spiffe_id) for row in rows]
    await log_changes(tx, ChangeKind.ENTRY, ended)
    return len(ended)


async def next_expiry(tx: AsyncConnection) -> int | None:
    """When the next entry expires, in seconds since 1970; None if no entry does."""
    soonest: int | None = (await tx.execute(select(func.min(entries.c.expires_at)))).scalar_one()
    return soonest


def _filtered(query: Select[Any], wanted: EntryFilter) -> Select[Any]:
    if wanted.spiffe_id is not None:
        query = query.where(entries.c.spiffe_id == str(wanted.spiffe_id))
    if wanted.parent_id is not None:
        query = query.where(entries.c.parent_id == str(wanted.parent_id))
    if wanted.hint is not None:
        query = query.where(entries.c.hint == wanted.hint)
    for selector in wanted.selectors:
        query = query.where(entries.c.selectors.contains(selector_text(selector), autoescape=True))
    return query


async def _check_unlike(tx: AsyncConnection, kept: Sequence[Entry]) -> None:
    by_likeness: dict[str, Entry] = {}
    for entry in kept:
        twin = by_likeness.setdefault(likeness(entry), entry)
        if twin is not entry:
            raise ConflictError(
                f"entry {entry.spiffe_id}: another entry of this request has the same parent, SPIFFE ID and selectors"
            )
    for chunk in _chunks(list(by_likeness)):
        query = select(entries.c.id, entries.c.likeness).where(entries.c.likeness.in_(chunk))
        for row in await tx.execute(query):
            entry = by_likeness[row.likeness]
            if row.id != entry.id:
                raise ConflictError(
                    f"entry {entry.spiffe_id}: entry {row.id} already has this parent, ID and selectors;"
                    " update that one"
                )


def _chunks(items: list[str]) -> Iterable[list[str]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
