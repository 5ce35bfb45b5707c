"""The authorities of all servers in the store, through the states of their lives. Each call is part of the caller's
transaction.

``store.bundles`` adds an authority, and makes the bundle of those that are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy import ColumnElement, RowMapping, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.authority_states import PUBLISHED, AuthorityState, AuthorityStep, next_state
from meshtls.errors import ConflictError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.registration import server_id, spire_server_id
from meshtls.server.store.bundles import Published
from meshtls.server.store.changes import lock_writers, note_bundle_change
from meshtls.server.store.rows import moment, seconds
from meshtls.server.store.schema import agents, authorities, entries, issuances
from meshtls.serverapi.values import Holders
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import key_id_of

__all__ = [
    "DOWNSTREAM",
    "UPSTREAM",
    "AuthorityRecord",
    "claim",
    "expire_ended",
    "hangs_on",
    "holders",
    "list_authorities",
    "locked_authorities",
    "move",
    "of_known",
    "publish_again",
    "tainted_ids",
]

#: As ``server_id``: the authority of the servers above this one, or of those below it.
UPSTREAM, DOWNSTREAM = "upstream", "downstream"
#: After its retirement an authority stays at least this long: an SVID that it was just signing is on record by then.
_SIGNING_ENDS = timedelta(minutes=1)
#: The steps after which every agent needs the bundle again, or has SVIDs to replace.
_PUSHED = frozenset({AuthorityStep.TAINT, AuthorityStep.REVOKE, AuthorityStep.EXPIRE})


@dataclass(frozen=True, slots=True)
class AuthorityRecord:
    """An authority of the server with ``server_id``.

    - ``id``: of an X.509 authority its subject key identifier, hexadecimal, to which the SVIDs' chains refer; of a JWT
      authority the ``kid``.
    - ``revision``: the sequence of the first bundle that it was in.
    - ``created_at``, ``changed_at``: since when it is in the bundle, and in its state; 1970 if that was not recorded.
    - ``ends_at``: when it can't be used any more. ``published.expires_at``: when it leaves the bundle, as far as known.
    """

    id: str
    published: Published
    server_id: str
    state: AuthorityState
    revision: int
    created_at: datetime
    changed_at: datetime
    ends_at: datetime

    @property
    def kind(self) -> str:
        """x509 or jwt."""
        return self.published.kind

    def __str__(self) -> str:
        return f"{'JWT' if self.kind == 'jwt' else 'X.509'} authority {self.id}"


async def list_authorities(tx: AsyncConnection) -> list[AuthorityRecord]:
    """All, in the order of their publication; also those that have left the bundle, until their end."""
    found = await tx.execute(select(authorities).order_by(authorities.c.revision, authorities.c.kind))
    return [_record(row) for row in found.mappings()]


async def locked_authorities(tx: AsyncConnection) -> list[AuthorityRecord]:
    """As ``list_authorities``; no other writer changes them until ``tx`` ends."""
    await lock_writers(tx)
    return await list_authorities(tx)


async def move(
    tx: AsyncConnection,
    trust_domain: TrustDomain,
    record: AuthorityRecord,
    step: AuthorityStep,
    now: datetime,
    *,
    signing_ends: timedelta = _SIGNING_ENDS,
) -> AuthorityRecord:
    """Take this step, and return the record as it is then.

    ``signing_ends``: how long after its retirement an SVID that it has signed may still come on record.

    Raises RequestError for a step that its state does not allow, ConflictError if the state has changed since.
    """
    state = next_state(record.state, step)
    values = {"state": state.name, "changed_at": seconds(now)}
    published = record.published
    if step is AuthorityStep.RETIRE:
        last = await _last_leaf(tx, record)
        published = replace(published, expires_at=min(max(last or now, now + signing_ends), record.ends_at))
        values["expires_at"] = seconds(published.expires_at)
    if step in _PUSHED:
        await note_bundle_change(tx, trust_domain)
    unchanged = _is(record) & (authorities.c.state == record.state.name)
    if not (await tx.execute(update(authorities).where(unchanged).values(**values))).rowcount:
        raise ConflictError(f"{record}: it was {record.state.name}, but another command has changed that; try again")
    return replace(record, state=state, changed_at=now, published=published)


async def publish_again(
    tx: AsyncConnection, trust_domain: TrustDomain, record: AuthorityRecord, now: datetime
) -> AuthorityRecord:
    """An upstream authority that was retired is in use there again: it is prepared anew."""
    revision = await note_bundle_change(tx, trust_domain)
    again = replace(
        record,
        state=AuthorityState.PREPARED,
        changed_at=now,
        revision=revision,
        published=replace(record.published, expires_at=record.ends_at),
    )
    values = {
        "state": again.state.name,
        "changed_at": seconds(now),
        "revision": revision,
        "expires_at": seconds(record.ends_at),
    }
    await tx.execute(update(authorities).where(_is(record)).values(**values))
    return again


async def claim(tx: AsyncConnection, record: AuthorityRecord, server_id: str) -> AuthorityRecord:
    """The server with this id has its key: it is that server's from now on."""
    await tx.execute(update(authorities).where(_is(record)).values(server_id=server_id))
    return replace(record, server_id=server_id)


def tainted_ids(records: Iterable[AuthorityRecord]) -> tuple[str, ...]:
    """The ids of those whose SVIDs are to be replaced now: of one that was revoked untainted, none is accepted.

    Agents look up X.509 and JWT authorities in one set. A key of JWT-SVIDs whose owner gave it the id of an X.509
    authority is left out, so that its taint never stands for that of a root.
    """
    present = list(records)
    roots = {one.id for one in present if one.kind == "x509"}
    bad = [one for one in present if one.state in (AuthorityState.TAINTED, AuthorityState.REVOKED)]
    return tuple(one.id for one in bad if one.kind == "x509" or one.id not in roots)


async def expire_ended(tx: AsyncConnection, trust_domain: TrustDomain, now: datetime) -> list[AuthorityRecord]:
    """Take the authorities that nothing hangs on any more out of the bundle, and return them as they were.

    What has left the bundle before is forgotten at its end.
    """
    gone = []
    for record in await list_authorities(tx):
        if record.state not in PUBLISHED:
            if record.ends_at <= now:
                await tx.execute(delete(authorities).where(_is(record)))
        elif await _has_ended(tx, record, now):
            gone.append(record)
            if record.state is AuthorityState.ACTIVE:  # its server is gone, or was stopped for long
                record = await move(tx, trust_domain, record, AuthorityStep.RETIRE, now)
            await move(tx, trust_domain, record, AuthorityStep.EXPIRE, now)
    return gone


async def holders(
    tx: AsyncConnection, trust_domain: TrustDomain, record: AuthorityRecord, now: datetime
) -> list[Holders]:
    """Who still needs this authority in the bundle, by agent.

    Of the X509-SVIDs of an agent's entry, and of its own, only the newest counts, since it has replaced the others; not
    those of entries that are deleted and of agents that are banned or evicted. Of tokens, and of what administrators
    minted, each counts until it expires. What was revoked does not count.

    Of the CAs of downstream servers, the newest of each server counts, whatever becomes of the agent that gave the
    server its identity. A server is told apart by agent, entry and the ID that it gives; SPIRE's give none. Where the
    agent is not known, each CA counts.
    """
    known = [one.id for one in await list_authorities(tx) if one.kind == record.kind]
    valid = issuances.c.kind.in_(_kinds(record)) & (issuances.c.not_after > seconds(now))
    valid &= of_known(known)
    held = valid & hangs_on(record.id, record.server_id) & issuances.c.revoked_at.is_(None)
    if record.kind == "x509":
        own = [str(server_id(trust_domain)), str(spire_server_id(trust_domain))]
        replaceable = issuances.c.agent_id.is_not(None) | issuances.c.spiffe_id.in_(own)
        by_holder = (issuances.c.server_id, issuances.c.spiffe_id, issuances.c.entry_id)
        others = (issuances.c.agent_id, issuances.c.entry_id, issuances.c.spiffe_id, issuances.c.below)
        newest = select(func.max(issuances.c.number)).where(valid)
        of_agent = issuances.c.agent_id.is_not(None)
        held &= (
            ~replaceable
            | issuances.c.number.in_(newest.where(of_agent).group_by(*others))
            | issuances.c.number.in_(newest.where(~of_agent).group_by(*by_holder))
        )
    admitted = select(agents.c.spiffe_id).where(agents.c.banned.is_(False))
    held &= issuances.c.agent_id.is_(None) | (issuances.c.kind == "ca") | issuances.c.agent_id.in_(admitted)
    held &= issuances.c.entry_id.is_(None) | issuances.c.entry_id.in_(select(entries.c.id))
    query = select(
        issuances.c.agent_id,
        func.count().label("number"),
        func.max(issuances.c.not_after).label("until"),
        func.count(case((issuances.c.kind == "ca", 1))).label("cas"),
    )
    found = await tx.execute(query.where(held).group_by(issuances.c.agent_id).order_by(issuances.c.agent_id))
    return [
        Holders(None if row.agent_id is None else SpiffeId.parse(row.agent_id), row.number, moment(row.until), row.cas)
        for row in found
    ]


def hangs_on(authority_id: str, server_id: str) -> ColumnElement[bool]:
    """The issuances that hang on this authority of this server: also the server's SVIDs whose authority was not
    recorded. That of its own intermediates is never recorded, and they hang on none.
    """
    unknown = issuances.c.authority.is_(None) & (issuances.c.server_id == server_id) & (issuances.c.kind != "ca")
    return (issuances.c.authority == authority_id) | unknown


def of_known(authority_ids: Sequence[str]) -> ColumnElement[bool]:
    """The issuances of these authorities, and those whose authority was not recorded. With the ids of all, it only has
    the index serve.
    """
    return issuances.c.authority.in_(authority_ids) | issuances.c.authority.is_(None)


async def _has_ended(tx: AsyncConnection, record: AuthorityRecord, now: datetime) -> bool:
    if record.ends_at <= now:
        return True
    signed_before = record.state in (AuthorityState.OLD, AuthorityState.TAINTED)
    if not signed_before or now < record.published.expires_at:
        return False
    # Asked again, since a signature may have been under way when it was retired.
    last = await _last_leaf(tx, record)
    return last is None or last <= now


async def _last_leaf(tx: AsyncConnection, record: AuthorityRecord) -> datetime | None:
    of_it = issuances.c.kind.in_(_kinds(record)) & hangs_on(record.id, record.server_id)
    query = select(func.max(issuances.c.not_after)).where(of_it)
    last: int | None = (await tx.execute(query)).scalar_one()
    return None if last is None else moment(last)


def _kinds(record: AuthorityRecord) -> tuple[str, ...]:
    """The kinds of what hangs on it: on an X.509 authority also the CAs of downstream servers."""
    return (record.kind, "ca") if record.kind == "x509" else (record.kind,)


def _is(record: AuthorityRecord) -> ColumnElement[bool]:
    return (authorities.c.kind == record.published.kind) & (authorities.c.name == record.published.name)


def _record(row: RowMapping) -> AuthorityRecord:
    return AuthorityRecord(
        id=_id_of(row["kind"], row["name"], row["der"]),
        published=Published(row["kind"], row["name"], row["der"], moment(row["expires_at"])),
        server_id=row["server_id"],
        state=AuthorityState[row["state"]],
        revision=row["revision"],
        created_at=moment(row["created_at"]),
        changed_at=moment(row["changed_at"]),
        # 0 where a server of an older version has published it.
        ends_at=moment(row["ends_at"] or row["expires_at"]),
    )


def _id_of(kind: str, name: str, der: bytes) -> str:
    if kind == "jwt":
        return name
    try:
        return key_id_of(x509.load_der_x509_certificate(der))
    except PARSE_ERRORS:
        return name  # nothing hangs on it: it is not in the bundle either
