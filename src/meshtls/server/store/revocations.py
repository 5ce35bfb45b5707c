"""What was revoked, in the store: SVIDs, blocked IDs and entries, and CRLs. Each call is part of the caller's
transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from sqlalchemy import ColumnElement, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.registration import Entry
from meshtls.revocation.building import CrlEntry
from meshtls.server.store.authorities import hangs_on, list_authorities, of_known
from meshtls.server.store.changes import ChangeKind, lock_writers, log_changes
from meshtls.server.store.rows import moment, seconds
from meshtls.server.store.schema import agents, blocks, crls, entries, issuances
from meshtls.serverapi.values import Block, RevokedSvid, Subject, SubjectKind
from meshtls.spiffeid import SpiffeId

__all__ = [
    "AGENT_BANNED",
    "ENTRY_DELETED",
    "Blocks",
    "StoredCrl",
    "block",
    "drop_crl",
    "find_certificate",
    "has_revoked",
    "list_blocks",
    "list_revoked",
    "note_revocation",
    "put_crl",
    "read_blocks",
    "read_crls",
    "reinstate",
    "replace_crls",
    "revoke_issued",
    "revoked_certificates",
    "standing",
    "touch_entries",
    "unblock",
]

#: How long a certificate stays in the CRL after its end: it has to be in one that is newer than that (RFC 5280,
#: section 3.3).
_KEPT = timedelta(hours=1)
_HOLD = x509.ReasonFlags.certificate_hold.name
#: The reasons of what is revoked without a command that gives one.
ENTRY_DELETED = x509.ReasonFlags.cessation_of_operation.name
AGENT_BANNED = x509.ReasonFlags.privilege_withdrawn.name


@dataclass(frozen=True, slots=True)
class Blocks:
    """The IDs and entries for which nothing is issued."""

    spiffe_ids: frozenset[SpiffeId] = frozenset()
    entries: frozenset[str] = frozenset()

    def __contains__(self, entry: Entry) -> bool:
        return entry.id in self.entries or entry.spiffe_id in self.spiffe_ids


@dataclass(frozen=True, slots=True)
class StoredCrl:
    """The CRL of the CA whose key has the hash ``issuer``, hexadecimal. Both end at ``ends_at``.

    Of a server above this one ``issuer`` is the hash of the CRL: the certificate of its issuer is not known here.
    """

    issuer: str
    server_id: str
    number: int
    der: bytes = field(repr=False)
    ends_at: datetime


async def note_revocation(tx: AsyncConnection, subjects: Collection[Subject]) -> int:
    """Log that these were revoked or readmitted, so that every server signs its CRLs anew; returns the first revision.

    Other writers wait until ``tx`` ends.
    """
    return await log_changes(tx, ChangeKind.REVOCATION, [(str(one), "") for one in subjects])


async def revoke_issued(
    tx: AsyncConnection, subjects: Iterable[Subject], reason: str, now: datetime, *, server_id: str | None = None
) -> list[RevokedSvid]:
    """Mark what is valid of these subjects as revoked, and return it; with ``server_id`` only what that server issued.

    What was revoked before keeps its time and reason.
    """
    conditions = [_issued_to(one) for one in subjects]
    if not conditions:
        return []
    live = (issuances.c.not_after > seconds(now)) & issuances.c.revoked_at.is_(None)
    live &= (issuances.c.kind != "ca") | issuances.c.entry_id.is_not(None)
    live &= of_known([one.id for one in await list_authorities(tx)])
    if server_id is not None:
        live &= issuances.c.server_id == server_id
    marked = update(issuances).where(live & or_(*conditions))
    marked = marked.values(revoked_at=seconds(now), revocation_reason=reason)
    return [_revoked(row) for row in (await tx.execute(marked.returning(*issuances.c))).mappings()]


async def reinstate(tx: AsyncConnection, subject: Subject, now: datetime) -> list[RevokedSvid]:
    """Take what is on hold of this subject off it (RFC 5280, section 5.3.1), and return it."""
    held = (issuances.c.not_after > seconds(now)) & (issuances.c.revocation_reason == _HOLD)
    freed = update(issuances).where(held & issuances.c.revoked_at.is_not(None) & _issued_to(subject))
    freed = freed.values(revoked_at=None, revocation_reason=None)
    return [_revoked(row) for row in (await tx.execute(freed.returning(*issuances.c))).mappings()]


async def revoked_certificates(
    tx: AsyncConnection, kinds: Collection[str], authority_id: str, server_id: str, now: datetime
) -> list[CrlEntry]:
    """The revoked certificates of these kinds that hang on this authority of this server, in the order of their
    issuance: "x509" for leaves, "ca" for the CAs of servers below.
    """
    listed = _listed(kinds, authority_id, server_id, now)
    found = await tx.execute(select(issuances).where(listed).order_by(issuances.c.number))
    return [
        CrlEntry(int(row.serial, 16), moment(row.revoked_at), x509.ReasonFlags[row.revocation_reason]) for row in found
    ]


async def has_revoked(tx: AsyncConnection, authority_id: str, server_id: str, now: datetime) -> bool:
    """Whether ``revoked_certificates`` has any, of either kind."""
    listed = exists().where(_listed(("x509", "ca"), authority_id, server_id, now))
    return bool((await tx.execute(select(listed))).scalar_one())


async def find_certificate(tx: AsyncConnection, serial: str) -> RevokedSvid | None:
    """The SVID with this serial, revoked or not; None if none is on record."""
    row = (await tx.execute(select(issuances).where(issuances.c.serial == serial))).mappings().one_or_none()
    return None if row is None else _revoked(row)


async def list_revoked(tx: AsyncConnection, after: int, limit: int, now: datetime) -> list[RevokedSvid]:
    """A page of the revoked SVIDs that have not expired, in the order of issuance, with numbers above ``after``."""
    revoked = issuances.c.revoked_at.is_not(None) & (issuances.c.not_after > seconds(now))
    query = select(issuances).where(revoked & (issuances.c.number > after)).order_by(issuances.c.number).limit(limit)
    return [_revoked(row) for row in (await tx.execute(query)).mappings()]


async def block(tx: AsyncConnection, subject: Subject, reason: str, now: datetime) -> bool:
    """Issue nothing for this SPIFFE ID or entry any more. Returns whether it was not blocked before."""
    this = _is(subject)
    if (await tx.execute(select(blocks.c.subject).where(this))).one_or_none() is not None:
        return False
    row = {"kind": subject.kind.value, "subject": subject.name, "since": seconds(now), "reason": reason}
    await tx.execute(insert(blocks), row)
    return True


async def unblock(tx: AsyncConnection, subjects: Iterable[Subject]) -> int:
    """Issue for these again. Returns how many were blocked."""
    return sum([(await tx.execute(delete(blocks).where(_is(one)))).rowcount for one in subjects])


async def list_blocks(tx: AsyncConnection) -> list[Block]:
    """All, those of the longest standing first."""
    found = await tx.execute(select(blocks).order_by(blocks.c.since, blocks.c.kind, blocks.c.subject))
    return [Block(Subject(SubjectKind(row.kind), row.subject), row.reason, moment(row.since)) for row in found]


async def read_blocks(tx: AsyncConnection) -> Blocks:
    found = list(await tx.execute(select(blocks.c.kind, blocks.c.subject)))
    return Blocks(
        frozenset(SpiffeId.parse(row.subject) for row in found if row.kind == SubjectKind.SPIFFE_ID.value),
        frozenset(row.subject for row in found if row.kind == SubjectKind.ENTRY.value),
    )


async def standing(tx: AsyncConnection, subjects: Iterable[Subject]) -> dict[str, list[Subject]]:
    """The subjects for which nothing may be issued, by the reason: blocked ones, deleted entries and banned agents."""
    reasons = {one.subject: one.reason for one in await list_blocks(tx)}
    found: dict[str, list[Subject]] = {}
    for one in subjects:
        reason = reasons.get(one)
        if one.kind is SubjectKind.ENTRY and reason is None:
            known = (await tx.execute(select(entries.c.id).where(entries.c.id == one.name))).one_or_none()
            reason = None if known else ENTRY_DELETED
        elif one.kind is SubjectKind.AGENT:
            banned = agents.c.banned.is_(True) & (agents.c.spiffe_id == one.name)
            known = (await tx.execute(select(agents.c.spiffe_id).where(banned))).one_or_none()
            reason = AGENT_BANNED if known else None
        if reason is not None:
            found.setdefault(reason, []).append(one)
    return found


async def touch_entries(tx: AsyncConnection, subject: Subject) -> None:
    """Log a change of each entry that a block of this subject concerns, so that its agents are told."""
    mine = (
        entries.c.spiffe_id == subject.name if subject.kind is SubjectKind.SPIFFE_ID else entries.c.id == subject.name
    )
    found = await tx.execute(select(entries.c.id, entries.c.spiffe_id).where(mine))
    await log_changes(tx, ChangeKind.ENTRY, [(row.id, row.spiffe_id) for row in found])


async def read_crls(tx: AsyncConnection) -> list[StoredCrl]:
    """The CRLs of all servers, ordered by issuer."""
    found = await tx.execute(select(crls).order_by(crls.c.issuer))
    return [StoredCrl(row.issuer, row.server_id, row.number, row.der, moment(row.ends_at)) for row in found]


async def put_crl(tx: AsyncConnection, crl: StoredCrl) -> None:
    """Insert or replace the CRL of this issuer."""
    await drop_crl(tx, crl.issuer)  # which also logs the change
    row = {
        "issuer": crl.issuer,
        "server_id": crl.server_id,
        "number": crl.number,
        "der": crl.der,
        "ends_at": seconds(crl.ends_at),
    }
    await tx.execute(insert(crls), row)


async def replace_crls(tx: AsyncConnection, server_id: str, wanted: Collection[StoredCrl]) -> None:
    """Have exactly these of the server with this id. Other writers wait until ``tx`` ends."""
    await lock_writers(tx)
    present = {one.issuer for one in await read_crls(tx) if one.server_id == server_id}
    new = {one.issuer: one for one in wanted}
    for gone in sorted(present - new.keys()):
        await drop_crl(tx, gone)
    for issuer in sorted(new.keys() - present):
        await put_crl(tx, new[issuer])


async def drop_crl(tx: AsyncConnection, issuer: str) -> None:
    await log_changes(tx, ChangeKind.CRL, [(issuer, "")])
    await tx.execute(delete(crls).where(crls.c.issuer == issuer))


def _listed(kinds: Collection[str], authority_id: str, server_id: str, now: datetime) -> ColumnElement[bool]:
    revoked = issuances.c.revoked_at.is_not(None) & issuances.c.kind.in_(kinds)
    return hangs_on(authority_id, server_id) & revoked & (issuances.c.not_after > seconds(now - _KEPT))


def _issued_to(subject: Subject) -> ColumnElement[bool]:
    """What was issued to this subject. The CA of a server below has the trust domain's ID, and its server's entry."""
    columns = {
        SubjectKind.SERIAL: issuances.c.serial,
        SubjectKind.SPIFFE_ID: issuances.c.spiffe_id,
        SubjectKind.AGENT: issuances.c.agent_id,
        SubjectKind.ENTRY: issuances.c.entry_id,
    }
    issued = columns[subject.kind] == subject.name
    if subject.kind is SubjectKind.SPIFFE_ID:
        its_entries = select(entries.c.id).where(entries.c.spiffe_id == subject.name)
        issued |= (issuances.c.kind == "ca") & issuances.c.entry_id.in_(its_entries)
    return issued


def _is(subject: Subject) -> ColumnElement[bool]:
    return (blocks.c.kind == subject.kind.value) & (blocks.c.subject == subject.name)


def _revoked(row: Any) -> RevokedSvid:
    return RevokedSvid(
        number=row["number"],
        kind=row["kind"],
        serial=row["serial"],
        spiffe_id=SpiffeId.parse(row["spiffe_id"]),
        server_id=row["server_id"],
        not_after=moment(row["not_after"]),
        revoked_at=None if row["revoked_at"] is None else moment(row["revoked_at"]),
        reason=row["revocation_reason"] or "",
        authority=row["authority"],
    )
