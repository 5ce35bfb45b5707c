"""Authorities in the store, on SQLite and on PostgreSQL: their steps, when they leave, and who hangs on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL, insert, text
from sqlalchemy.sql import column, table

from meshtls.bundle import TrustBundle
from meshtls.ca.authority_states import AuthorityState, AuthorityStep
from meshtls.errors import ConflictError, RequestError
from meshtls.registration import AgentRecord, Entry, Issuance, Selector, server_id
from meshtls.server.store import agents, authorities, bundles, entries
from meshtls.server.store.authorities import AuthorityRecord
from meshtls.server.store.changes import current_revision
from meshtls.server.store.database import Database
from meshtls.server.store.issuances import record_issuances
from meshtls.server.store.migrate import migrate
from meshtls.serverapi.values import Holders
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import key_id_of
from tests.support import certs

TD = TrustDomain("example.org")
NOW = certs.NOW
MINUTE = timedelta(minutes=1)
NODE, OTHER = (SpiffeId(TD, f"/meshtls/agent/join_token/{name}") for name in ("n1", "n2"))
OLD, NEW = (certs.ca(slot=slot, not_after=NOW + timedelta(days=1)).certificate for slot in ("old", "new"))
ACTIVE, PREPARED = AuthorityState.ACTIVE, AuthorityState.PREPARED


async def published(database: Database, *states: AuthorityState, server: str = "s1") -> list[AuthorityRecord]:
    """Publish OLD and NEW, in these states."""
    async with database.write() as tx:
        for certificate, state in zip((OLD, NEW), states, strict=False):
            await bundles.publish(tx, TD, server, bundles.x509_authority(certificate), NOW, state)
        return await authorities.list_authorities(tx)


async def moved(
    database: Database, record: AuthorityRecord, *steps: AuthorityStep, at: datetime = NOW
) -> AuthorityRecord:
    async with database.write() as tx:
        for step in steps:
            record = await authorities.move(tx, TD, record, step, at)
    return record


async def issued(database: Database, *several: Issuance) -> None:
    async with database.write() as tx:
        await record_issuances(tx, several)


def issuance(serial: str, authority: AuthorityRecord | None, **changed: object) -> Issuance:
    one = Issuance(
        kind="x509",
        serial=serial,
        spiffe_id=SpiffeId(TD, "/web"),
        server_id="s1",
        issued_at=NOW,
        not_before=NOW,
        not_after=NOW + 30 * MINUTE,
        agent_id=NODE,
        authority=authority.id if authority else None,
    )
    return replace(one, **changed)  # type: ignore[arg-type]


async def bundle_of(database: Database) -> TrustBundle:
    async with database.read() as tx:
        return await bundles.own_bundle(tx, TD, 300)


async def expired(database: Database, at: datetime) -> list[str]:
    async with database.write() as tx:
        return [record.id for record in await authorities.expire_ended(tx, TD, at)]


async def holding(database: Database, record: AuthorityRecord) -> Sequence[Holders]:
    async with database.read() as tx:
        return await authorities.holders(tx, TD, record, NOW)


async def test_an_authority_is_named_by_its_key_and_has_its_times(database: Database) -> None:
    [record] = await published(database, PREPARED)
    assert (record.id, record.state, record.server_id) == (key_id_of(OLD), PREPARED, "s1")
    assert (record.created_at, record.changed_at, record.ends_at) == (NOW, NOW, NOW + timedelta(days=1))
    assert record.revision == (await bundle_of(database)).sequence


async def test_a_step_is_kept_and_is_refused_where_the_table_has_none(database: Database) -> None:
    old, new = await published(database, ACTIVE, PREPARED)
    await moved(database, old, AuthorityStep.RETIRE)
    await moved(database, new, AuthorityStep.ACTIVATE, at=NOW + MINUTE)
    async with database.read() as tx:
        kept = {one.id: (one.state, one.changed_at) for one in await authorities.list_authorities(tx)}
    assert kept == {old.id: (AuthorityState.OLD, NOW), new.id: (ACTIVE, NOW + MINUTE)}
    with pytest.raises(RequestError, match="^can't revoke it while it is ACTIVE"):
        await moved(database, replace(new, state=ACTIVE), AuthorityStep.REVOKE)


async def test_the_second_of_two_commands_at_once_is_refused(database: Database) -> None:
    [record] = await published(database, PREPARED)
    await moved(database, record, AuthorityStep.ACTIVATE)
    with pytest.raises(ConflictError) as refused:
        await moved(database, record, AuthorityStep.REVOKE)
    assert str(refused.value) == (
        f"X.509 authority {record.id}: it was PREPARED, but another command has changed that; try again"
    )


@pytest.mark.parametrize(
    ("steps", "changes"),
    [
        ([AuthorityStep.ACTIVATE, AuthorityStep.RETIRE], False),
        ([AuthorityStep.ACTIVATE, AuthorityStep.RETIRE, AuthorityStep.TAINT], True),
        ([AuthorityStep.REVOKE], True),
    ],
)
async def test_a_step_that_agents_act_on_is_a_change_of_the_bundle(
    database: Database, steps: list[AuthorityStep], changes: bool
) -> None:
    [record] = await published(database, PREPARED)
    before = await bundle_of(database)
    await moved(database, record, *steps)
    async with database.read() as tx:
        assert (await current_revision(tx) > record.revision) is changes
    assert ((await bundle_of(database)).sequence != before.sequence) is changes


async def test_an_authority_leaves_the_bundle_when_the_last_svid_it_signed_has_ended(database: Database) -> None:
    old, _ = await published(database, ACTIVE, ACTIVE)
    await issued(database, issuance("01", old), issuance("02", old, not_after=NOW + 5 * MINUTE))
    old = await moved(database, old, AuthorityStep.RETIRE)
    assert old.published.expires_at == NOW + 30 * MINUTE
    assert await expired(database, NOW + 30 * MINUTE - timedelta(seconds=1)) == []
    assert (await bundle_of(database)).x509_authorities == (OLD, NEW)
    assert await expired(database, NOW + 30 * MINUTE) == [old.id]
    assert (await bundle_of(database)).x509_authorities == (NEW,)


async def test_an_svid_recorded_after_the_retirement_keeps_its_authority_in_the_bundle(database: Database) -> None:
    old, _ = await published(database, ACTIVE, ACTIVE)
    old = await moved(database, old, AuthorityStep.RETIRE)
    await issued(database, issuance("01", old))
    assert await expired(database, NOW + MINUTE) == []
    assert await expired(database, NOW + 30 * MINUTE) == [old.id]


async def test_svids_of_before_authorities_had_states_keep_those_of_their_server(database: Database) -> None:
    old, _ = await published(database, ACTIVE, ACTIVE)
    await agent_with_entry(database)
    await issued(database, issuance("01", None))
    await moved(database, old, AuthorityStep.RETIRE)
    assert await expired(database, NOW + MINUTE) == []
    assert [one.count for one in await holding(database, old)] == [1]


async def test_a_revoked_authority_is_remembered_until_its_own_end(database: Database) -> None:
    [record] = await published(database, PREPARED)
    await moved(database, record, AuthorityStep.REVOKE)
    for at, remembered in ((record.ends_at - timedelta(seconds=1), 1), (record.ends_at, 0)):
        assert await expired(database, at) == []
        async with database.read() as tx:
            assert len(await authorities.list_authorities(tx)) == remembered


@pytest.mark.parametrize("state", [ACTIVE, PREPARED])
async def test_an_authority_past_its_end_leaves_the_bundle_whatever_its_state(
    database: Database, state: AuthorityState
) -> None:
    [record] = await published(database, state)
    assert await expired(database, record.ends_at - timedelta(seconds=1)) == []
    assert await expired(database, record.ends_at) == [record.id]
    assert (await bundle_of(database)).x509_authorities == ()


async def agent_with_entry(database: Database, node: SpiffeId = NODE) -> Entry:
    record = AgentRecord(spiffe_id=node, type="join_token", serials=("a",), not_after=NOW + MINUTE, attested_at=NOW)
    selectors = (Selector("unix", "uid:1"),)
    async with database.write() as tx:
        await agents.put_agent(tx, record)
        [entry] = await entries.insert_entries(
            tx, [Entry(spiffe_id=SpiffeId(TD, "/web"), parent_id=node, selectors=selectors)]
        )
    return entry


async def test_svids_hang_on_their_authority_until_the_same_agent_has_newer_ones(database: Database) -> None:
    old, new = await published(database, ACTIVE, ACTIVE)
    mine, theirs = await agent_with_entry(database), await agent_with_entry(database, OTHER)
    end = NOW + 30 * MINUTE
    await issued(
        database,
        issuance("01", old, entry_id=mine.id),
        issuance("02", old, entry_id=mine.id),
        issuance("03", old, entry_id=theirs.id, agent_id=OTHER),
        issuance("04", old, spiffe_id=NODE),
        issuance("05", old, agent_id=None, not_after=end + MINUTE),
        issuance("06", old, agent_id=None),
        issuance("07", old, agent_id=None, spiffe_id=server_id(TD)),
        issuance("08", old, entry_id=mine.id, not_after=NOW),
    )
    assert await holding(database, new) == []
    assert {one.agent_id: (one.count, one.until) for one in await holding(database, old)} == {
        NODE: (2, end),
        OTHER: (1, end),
        None: (3, end + MINUTE),
    }
    await issued(
        database,
        issuance("11", new, entry_id=mine.id),
        issuance("14", new, spiffe_id=NODE),
        issuance("15", new, agent_id=None),
        issuance("17", new, agent_id=None, spiffe_id=server_id(TD)),
    )
    assert {one.agent_id: one.count for one in await holding(database, old)} == {OTHER: 1, None: 2}


async def test_svids_of_deleted_entries_and_of_agents_that_are_not_admitted_do_not_count(database: Database) -> None:
    old, _ = await published(database, ACTIVE, ACTIVE)
    mine, theirs = await agent_with_entry(database), await agent_with_entry(database, OTHER)
    await issued(
        database,
        issuance("01", old, entry_id=mine.id),
        issuance("02", old, entry_id=theirs.id, agent_id=OTHER),
    )
    assert len(await holding(database, old)) == 2
    async with database.write() as tx:
        await entries.delete_entries(tx, [mine.id])
        await agents.ban_agent(tx, OTHER)
    assert await holding(database, old) == []


async def test_tokens_hang_on_their_key_until_they_expire(database: Database) -> None:
    key = bundles.jwt_authority("k1", certs.key("jwt").public_key(), NOW + timedelta(days=1))
    async with database.write() as tx:
        await bundles.publish(tx, TD, "s1", key, NOW)
        [record] = await authorities.list_authorities(tx)
    entry = await agent_with_entry(database)
    await issued(database, *(issuance(serial, record, kind="jwt", entry_id=entry.id) for serial in ("01", "02")))
    assert [(one.agent_id, one.count) for one in await holding(database, record)] == [(NODE, 2)]


async def test_agents_without_the_bundle_are_those_with_a_valid_svid_that_did_not_confirm_it(
    database: Database,
) -> None:
    for node in (NODE, OTHER):
        await agent_with_entry(database, node)

    async def without(sequence: int, at: datetime = NOW) -> list[SpiffeId]:
        async with database.read() as tx:
            return await agents.without_bundle(tx, sequence, at)

    assert await without(7) == [NODE, OTHER]
    async with database.write() as tx:
        await agents.note_bundle_seen(tx, NODE, 7)
        await agents.note_bundle_seen(tx, NODE, 5)
    assert await without(7) == [OTHER]
    assert await without(8) == [NODE, OTHER]
    assert await without(7, NOW + MINUTE) == []
    async with database.write() as tx:
        await agents.ban_agent(tx, OTHER)
    assert await without(7) == []


async def test_the_authorities_of_the_schema_before_are_active_until_their_end(store_url: URL) -> None:
    database = Database(store_url)
    await migrate(database, "0002")
    root = bundles.x509_authority(OLD)
    row = {"kind": "x509", "name": root.name, "server_id": "s1", "der": root.der, "revision": 7}
    row["expires_at"] = int(root.expires_at.timestamp())
    async with database.write() as tx:
        await tx.execute(insert(table("authorities", *map(column, row))), [row])
        await tx.execute(text("UPDATE counters SET value = 7"))
    await migrate(database)
    async with database.read() as tx:
        [record] = await authorities.list_authorities(tx)
    unknown = datetime.fromtimestamp(0, UTC)
    assert record == AuthorityRecord(key_id_of(OLD), root, "s1", ACTIVE, 7, unknown, unknown, root.expires_at)
    assert await bundle_of(database) == TrustBundle(TD, (OLD,), {}, 7, 300)
    await database.close()
