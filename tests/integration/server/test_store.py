"""The store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Connection, column, insert, table, text

from meshtls.bundle import TrustBundle
from meshtls.errors import AccessError, ConfigError, ConflictError, MeshtlsError, NotFoundError, StoreError
from meshtls.registration import AgentRecord, Entry, EntryFilter, Issuance, Selector
from meshtls.server.store import agents, bundles, changes, entries, issuances, tokens
from meshtls.server.store.address import sqlite_url
from meshtls.server.store.agents import AgentCounts
from meshtls.server.store.changes import Change, ChangeKind
from meshtls.server.store.database import Database
from meshtls.server.store.migrate import migrate, schema_version
from meshtls.server.store.rows import entry_row
from meshtls.server.store.schema import METADATA
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support import certs
from tests.support.certs import NOW
from tests.support.clock import ManualClock

TD = TrustDomain("example.org")
NODE = SpiffeId(TD, "/meshtls/agent/join_token/n1")
EVERYTHING = EntryFilter()


def entry(path: str = "/web", *selectors: str, parent: SpiffeId = NODE) -> Entry:
    parsed = tuple(map(Selector.parse, selectors or ("unix:uid:1000",)))
    return Entry(spiffe_id=SpiffeId(TD, path), parent_id=parent, selectors=parsed)


def issuance(serial: str, path: str = "/web") -> Issuance:
    return Issuance(
        kind="x509",
        serial=serial,
        spiffe_id=SpiffeId(TD, path),
        server_id="s1",
        issued_at=NOW,
        not_before=NOW,
        not_after=NOW + timedelta(hours=1),
        agent_id=NODE,
        entry_id="e1",
    )


async def add(database: Database, *new: Entry) -> list[Entry]:
    async with database.write() as tx:
        return await entries.insert_entries(tx, new)


async def listed(database: Database, wanted: EntryFilter = EVERYTHING) -> list[Entry]:
    async with database.read() as tx:
        return await entries.list_entries(tx, wanted, "", 100)


async def test_the_migrations_make_what_the_code_expects(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with database.read() as tx:
        assert await tx.run_sync(differences) == []


async def test_the_version_is_current_after_migrating_and_a_second_time_changes_nothing(database: Database) -> None:
    await add(database, entry())
    await migrate(database)
    assert (await schema_version(database)).current
    assert len(await listed(database)) == 1


async def test_a_database_of_a_newer_meshtls_is_refused(database: Database) -> None:
    async with database.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError) as refused:
        await migrate(database)
    assert str(refused.value) == (
        f"data store {database.where}: its schema 9999 is newer than this meshtls knows;"
        " upgrade meshtls, or give another database"
    )


async def test_an_entry_round_trips_through_the_store(database: Database) -> None:
    made = replace(
        entry("/db", "unix:uid:5", 'unix:path:/a "b" %\\'),
        x509_svid_ttl=60,
        jwt_svid_ttl=30,
        federates_with=(TrustDomain("b.test"), TrustDomain("a.test")),
        dns_names=("db.local", "db"),
        hint="internal",
        admin=True,
        downstream=True,
        expires_at=NOW,
    )
    [kept] = await add(database, made)
    assert kept == replace(made, id=kept.id, revision=1, created=1)
    assert await listed(database) == [kept]


async def test_a_changed_entry_stays_as_old_as_it_was(database: Database) -> None:
    first, second = await add(database, entry("/web"), entry("/db"))
    assert first.created < second.created
    async with database.write() as tx:
        changed = await entries.update_entry(tx, replace(first, hint="changed", created=0))
    assert (changed.created, changed.revision > second.revision) == (first.created, True)
    assert [one.created for one in await listed(database, EntryFilter(hint="changed"))] == [first.created]


async def test_entries_of_the_first_schema_are_as_old_as_their_last_change(store_url: URL) -> None:
    database = Database(store_url)
    await migrate(database, "0001")
    now = entry_row(replace(entry("/web"), id="a", revision=7))
    del now["created"]
    async with database.write() as tx:
        await tx.execute(insert(table("entries", *map(column, now))), [now])
    await migrate(database)
    assert [(one.id, one.created) for one in await listed(database)] == [("a", 7)]
    await database.close()


async def test_entries_are_listed_in_pages_and_by_filter(database: Database) -> None:
    kept = await add(database, *(entry(f"/w{n}", f"unix:uid:{n}", "unix:gid:1") for n in range(5)))
    by_id = sorted(kept, key=lambda one: one.id)
    async with database.read() as tx:
        first = await entries.list_entries(tx, EVERYTHING, "", 3)
        rest = await entries.list_entries(tx, EVERYTHING, first[-1].id, 3)
        assert first + rest == by_id
        assert await entries.count_entries(tx, EVERYTHING) == 5
        assert [one async for one in entries.all_entries(tx)] != []
    for wanted, count in (
        (EntryFilter(spiffe_id=SpiffeId(TD, "/w3")), 1),
        (EntryFilter(parent_id=NODE), 5),
        (EntryFilter(selectors=(Selector("unix", "uid:3"),)), 1),
        (EntryFilter(selectors=(Selector("unix", "gid:1"), Selector("unix", "uid:4"))), 1),
        (EntryFilter(selectors=(Selector("unix", "uid:%"),)), 0),
        (EntryFilter(hint="none"), 0),
    ):
        assert len(await listed(database, wanted)) == count


async def test_a_duplicate_entry_is_refused_and_a_different_one_is_not(database: Database) -> None:
    [kept] = await add(database, entry("/web", "unix:uid:1", "unix:gid:2"))
    with pytest.raises(ConflictError) as refused:
        await add(database, entry("/other"), entry("/web", "unix:gid:2", "unix:uid:1"))
    assert str(refused.value) == (
        f"entry spiffe://example.org/web: entry {kept.id} already has this parent, ID and selectors; update that one"
    )
    assert await listed(database) == [kept], "the other of the two was not kept either"
    await add(database, entry("/other"), entry("/web", "unix:gid:3", "unix:uid:1"))
    assert len(await listed(database)) == 3


async def test_an_update_of_a_newer_revision_is_refused(database: Database) -> None:
    [read] = await add(database, entry())
    async with database.write() as tx:
        newer = await entries.update_entry(tx, replace(read, hint="theirs"))
    with pytest.raises(ConflictError) as refused:
        async with database.write() as tx:
            await entries.update_entry(tx, replace(read, hint="mine"))
    assert str(refused.value) == (
        f"entry {read.id}: it was changed to revision 2 since you read 1; read it again and repeat your change"
    )
    async with database.write() as tx:
        await entries.update_entry(tx, replace(newer, hint="mine"))
    assert [one.hint for one in await listed(database)] == ["mine"]


async def test_deleting_an_unknown_entry_deletes_nothing(database: Database) -> None:
    [kept] = await add(database, entry())
    with pytest.raises(NotFoundError, match=r"^entry nowhere: no entry has this id$"):
        async with database.write() as tx:
            await entries.delete_entries(tx, [kept.id, "nowhere"])
    assert await listed(database) == [kept]
    async with database.write() as tx:
        await entries.delete_entries(tx, [kept.id])
    assert await listed(database) == []


async def test_each_change_is_logged_in_order_with_the_ids_that_it_concerns(database: Database) -> None:
    [kept] = await add(database, entry("/old"))
    async with database.write() as tx:
        await entries.update_entry(tx, replace(kept, spiffe_id=SpiffeId(TD, "/new")))
        await entries.delete_entries(tx, [kept.id])
    async with database.read() as tx:
        found = await changes.changes_since(tx, 0)
        assert await changes.current_revision(tx) == 4
    subjects = [("spiffe://example.org/" + path) for path in ("old", "new", "old", "new")]
    assert found == [Change(n, ChangeKind.ENTRY, kept.id, subject) for n, subject in enumerate(subjects, 1)]


async def test_the_log_is_pruned_and_numbers_go_on(database: Database) -> None:
    await add(database, *(entry(f"/w{n}") for n in range(5)))
    async with database.write() as tx:
        await changes.prune_changes(tx, keep=2)
    async with database.read() as tx:
        assert [one.revision for one in await changes.changes_since(tx, 0)] == [4, 5]
        assert await changes.oldest_change(tx) == 4
        assert await changes.current_revision(tx) == 5


async def test_concurrent_writers_number_their_changes_without_gap_or_double(database: Database) -> None:
    await asyncio.gather(*(add(database, entry(f"/w{n}")) for n in range(12)))
    async with database.read() as tx:
        assert [one.revision for one in await changes.changes_since(tx, 0)] == list(range(1, 13))


async def test_a_transaction_that_fails_midway_leaves_nothing(database: Database) -> None:
    async def change(statement: str) -> None:
        async with database.write() as tx:
            await entries.insert_entries(tx, [entry()])
            await issuances.record_issuances(tx, [issuance("01")])
            await tx.execute(text(statement))

    with pytest.raises(StoreError, match="data store .*no_such_table"):
        await change("DELETE FROM no_such_table")
    assert await listed(database) == []
    async with database.read() as tx:
        assert await issuances.list_issuances(tx, 0, 10) == []
        assert await changes.current_revision(tx) == 0
    await change("DELETE FROM bundles")
    assert len(await listed(database)) == 1


async def test_a_serial_that_was_issued_before_fails_the_transaction(database: Database) -> None:
    async with database.write() as tx:
        await issuances.record_issuances(tx, [issuance("01")])
    with pytest.raises(StoreError, match="data store .*serial"):
        async with database.write() as tx:
            await issuances.record_issuances(tx, [issuance("02"), issuance("01", "/other")])
    async with database.write() as tx:
        await issuances.record_issuances(tx, [issuance("02", "/db")])
    async with database.read() as tx:
        found = await issuances.list_issuances(tx, 0, 10)
        assert found == [replace(issuance("01"), number=found[0].number), replace(found[1], serial="02")]
        assert await issuances.list_issuances(tx, found[0].number, 10) == found[1:]
        assert await issuances.list_issuances(tx, 0, 10, spiffe_id=SpiffeId(TD, "/db")) == found[1:]
        assert await issuances.list_issuances(tx, 0, 10, serial="01") == found[:1]


async def test_expired_issuances_are_pruned_later_oldest_first(database: Database) -> None:
    ends = {"a": 1, "b": 9, "c": 2, "d": 3}
    issued = [replace(issuance(serial), not_after=NOW + timedelta(hours=end)) for serial, end in ends.items()]
    async with database.write() as tx:
        await issuances.record_issuances(tx, issued)

    async def kept_after(hours: int, most: int) -> list[str]:
        async with database.write() as tx:
            await issuances.prune_issuances(tx, NOW + timedelta(hours=hours), most)
            return [one.serial for one in await issuances.list_issuances(tx, 0, 100)]

    assert await kept_after(1, most=4) == ["a", "b", "c", "d"]
    assert await kept_after(4, most=2) == ["b", "c", "d"]
    assert await kept_after(4, most=2) == ["b", "d"]
    assert await kept_after(4, most=100) == ["b"]
    assert await kept_after(10, most=100) == []
    assert await kept_after(10, most=100) == []


async def test_a_join_token_is_good_once_even_for_tries_at_the_same_time(database: Database) -> None:
    async def attempt() -> SpiffeId | None:
        async with database.write() as tx:
            return await tokens.consume_token(tx, "secret", NOW)

    async with database.write() as tx:
        await tokens.add_token(tx, "secret", NODE, NOW + timedelta(minutes=5))
    tries = await asyncio.gather(*(attempt() for _ in range(8)))
    assert sorted(map(str, tries)) == ["None"] * 7 + [str(NODE)]


async def test_an_expired_or_mistyped_join_token_is_refused(database: Database) -> None:
    async with database.write() as tx:
        await tokens.add_token(tx, "secret", NODE, NOW + timedelta(minutes=5))
        assert await tokens.consume_token(tx, "secreT", NOW) is None
        assert await tokens.consume_token(tx, "secret", NOW + timedelta(minutes=5)) is None
        assert await tokens.consume_token(tx, "secret", NOW + timedelta(minutes=4)) == NODE
        await tokens.prune_tokens(tx, NOW + timedelta(minutes=5))
        assert (await tx.execute(text("SELECT count(*) FROM join_tokens"))).scalar_one() == 0


async def test_the_database_does_not_hold_the_token_itself(database: Database) -> None:
    async with database.write() as tx:
        await tokens.add_token(tx, "secret", NODE, NOW)
        [row] = (await tx.execute(text("SELECT * FROM join_tokens"))).all()
    assert "secret" not in str(row)


def agent(**changed: Any) -> AgentRecord:
    made = AgentRecord(spiffe_id=NODE, type="join_token", serials=("01",), not_after=NOW, attested_at=NOW)
    return replace(made, **changed)


async def test_an_agent_renews_is_banned_and_is_evicted(database: Database) -> None:
    async with database.write() as tx:
        await agents.put_agent(tx, agent(selectors=(Selector("x509pop", "subject:cn:n1"),)))
        await agents.renew_agent(tx, NODE, "02", NOW + timedelta(hours=1))
        renewed = await agents.find_agent(tx, NODE)
        assert renewed is not None
        assert (renewed.serials, renewed.not_after) == (("01", "02"), NOW + timedelta(hours=1))
        await agents.note_serial_in_use(tx, NODE, "02")
        assert [one.serials for one in await agents.list_agents(tx, "", 10)] == [("02",)]
        await agents.ban_agent(tx, NODE)
        assert [one.banned for one in await agents.list_agents(tx, "", 10, banned=True)] == [True]
    with pytest.raises(AccessError) as refused:
        async with database.write() as tx:
            await agents.put_agent(tx, agent())
    assert str(refused.value) == f"agent {NODE} is banned; evict it before it may attest again"
    async with database.write() as tx:
        await agents.evict_agent(tx, NODE)
        assert await agents.find_agent(tx, NODE) is None
        await agents.put_agent(tx, agent(serials=("03",)))
        assert await agents.list_agents(tx, "", 10) == [agent(serials=("03",))]


async def test_agents_are_counted_by_their_state(database: Database) -> None:
    ended, banned = (SpiffeId(TD, f"/meshtls/agent/join_token/{name}") for name in ("ended", "banned"))
    async with database.write() as tx:
        assert await agents.count_agents(tx, NOW) == (0, 0, 0)
        await agents.put_agent(tx, agent(not_after=NOW + timedelta(seconds=1)))
        await agents.put_agent(tx, agent(spiffe_id=ended, not_after=NOW))
        await agents.put_agent(tx, agent(spiffe_id=banned))
        await agents.ban_agent(tx, banned)
        assert await agents.count_agents(tx, NOW) == AgentCounts(attested=1, expired=1, banned=1)
        await agents.evict_agent(tx, ended)
        assert await agents.count_agents(tx, NOW) == AgentCounts(attested=1, expired=0, banned=1)


@pytest.mark.parametrize("change", [agents.ban_agent, agents.evict_agent])
async def test_an_unknown_agent_is_named(change: Any, database: Database) -> None:
    with pytest.raises(NotFoundError, match=f"^agent {NODE}: no agent has this ID$"):
        async with database.write() as tx:
            await change(tx, NODE)


async def test_the_bundle_holds_the_authorities_of_all_servers_and_its_sequence_grows(database: Database) -> None:
    one, two = (bundles.x509_authority(certs.ca(slot=slot).certificate) for slot in ("one", "two"))
    async with database.write() as tx:
        await bundles.publish(tx, TD, "s1", one, NOW)
        before = await bundles.own_bundle(tx, TD, 300)
        await bundles.publish(tx, TD, "s2", two, NOW)
        await bundles.publish(tx, TD, "s2", bundles.jwt_authority("k1", certs.key("jwt").public_key(), NOW), NOW)
        after = await bundles.own_bundle(tx, TD, 300)
    assert [len(found.x509_authorities) for found in (before, after)] == [1, 2]
    assert (list(after.jwt_authorities), after.refresh_hint) == (["k1"], 300)
    assert (before.sequence, after.sequence) == (1, 3)


async def test_a_federated_bundle_is_set_replaced_listed_and_deleted(database: Database) -> None:
    other = TrustDomain("b.test")
    first, second = (TrustBundle(other, (certs.ca(slot=slot).certificate,)) for slot in ("one", "two"))
    async with database.write() as tx:
        await bundles.set_bundle(tx, first)
        await bundles.set_bundle(tx, second)
        assert await bundles.federated_bundles(tx) == [second]
        await bundles.delete_bundle(tx, other)
        assert await bundles.federated_bundles(tx) == []
    with pytest.raises(MeshtlsError, match=r"^bundle of trust domain b\.test: there is none$"):
        async with database.write() as tx:
            await bundles.delete_bundle(tx, other)


@pytest.mark.parametrize("sequence", [None, 0, 2**63 - 1, 2**63, 2**64 - 1])
async def test_a_federated_bundles_sequence_is_kept_whatever_a_signed_number_can_hold(
    database: Database, sequence: int | None
) -> None:
    kept = TrustBundle(TrustDomain("b.test"), (certs.ca().certificate,), sequence=sequence)
    async with database.write() as tx:
        await bundles.set_bundle(tx, kept)
        assert await bundles.federated_bundles(tx) == [kept]


async def test_a_stored_bundle_that_cannot_be_read_costs_its_own_trust_domain_only(database: Database) -> None:
    first, second = (TrustBundle(TrustDomain(name), (certs.ca().certificate,)) for name in ("b.test", "c.test"))
    async with database.write() as tx:
        await bundles.set_bundle(tx, first)
        await bundles.set_bundle(tx, second)
        await tx.execute(text("UPDATE bundles SET document = 'junk' WHERE trust_domain = 'b.test'"))
        spoilt, whole = await bundles.federated_bundles(tx)
    assert (spoilt, whole) == (TrustBundle(first.trust_domain), second)
    assert "no peer of b.test is trusted" in spoilt.unusable[0]


async def test_an_authority_that_cannot_be_read_is_left_out_of_our_bundle(database: Database) -> None:
    root = certs.ca().certificate
    good = bundles.x509_authority(root)
    published = [
        replace(good, name="odd", der=b"junk"),
        good,
        bundles.Published("jwt", "odd", b"junk", NOW),
        bundles.jwt_authority("k1", certs.key("jwt").public_key(), NOW),
    ]
    async with database.write() as tx:
        for authority in published:
            await bundles.publish(tx, TD, "s2", authority, NOW)
        bundle = await bundles.own_bundle(tx, TD, 300)
    assert bundle == TrustBundle(TD, (root,), {"k1": certs.key("jwt").public_key()}, bundle.sequence, 300)
    assert [line[:60] for line in bundle.unusable] == [
        "SPIFFE bundle of trust domain example.org: left out an X.509",
        "JWT authority odd: wanted an EC or RSA key: Could not deseri",
    ]


async def test_an_entrys_expiry_by_the_clock_is_logged_as_a_change(database: Database) -> None:
    soon, late = NOW + timedelta(minutes=1), NOW + timedelta(minutes=2)
    one, two, three = await add(
        database, replace(entry("/a"), expires_at=soon), replace(entry("/b"), expires_at=late), entry("/c")
    )
    async with database.read() as tx:
        assert await entries.next_expiry(tx) == int(soon.timestamp())
    assert await _ended(database, NOW) == 0
    assert await changed(database) == [one.id, two.id, three.id]
    assert await _ended(database, soon) == 1
    assert await _ended(database, soon) == 0
    assert {kept.id for kept in await listed(database)} == {two.id, three.id}
    assert await changed(database) == [one.id, two.id, three.id, one.id]


async def _ended(database: Database, now: datetime) -> int:
    async with database.write() as tx:
        return await entries.end_entries(tx, now)


async def changed(database: Database) -> list[str]:
    async with database.read() as tx:
        return [change.key for change in await changes.changes_since(tx, 0)]


@pytest.mark.parametrize("more", [timedelta(hours=1), timedelta(0)], ids=["extended", "renamed only"])
async def test_an_expiring_entry_that_is_extended_first_is_kept(
    database: Database, store_url: URL, more: timedelta
) -> None:
    """Also if the other server saw it as expired before the extension was committed."""
    rival = Database(store_url)
    [made] = await add(database, replace(entry(), expires_at=NOW))
    async with database.write() as tx:
        kept = await entries.update_entry(tx, replace(made, hint="web", expires_at=NOW + more))
        ending = asyncio.create_task(_ended(rival, NOW))
        await _until_it_waits(database)
    assert await asyncio.wait_for(ending, 10) == (0 if more else 1)
    assert await listed(database) == ([kept] if more else [])
    await rival.close()


async def test_an_expired_entry_is_ended_by_exactly_one_of_two_servers(database: Database, store_url: URL) -> None:
    rival = Database(store_url)
    [made] = await add(database, replace(entry(), expires_at=NOW))
    async with database.write() as tx:
        assert await entries.end_entries(tx, NOW) == 1
        ending = asyncio.create_task(_ended(rival, NOW))
        await _until_it_waits(database)
    assert await asyncio.wait_for(ending, 10) == 0
    assert await changed(database) == [made.id, made.id]
    await rival.close()


async def _until_it_waits(database: Database) -> None:
    """Wait until a writer waits for a lock; SQLite's writers take theirs before they read anything."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while database.shared:
        async with database.read() as tx:
            if (await tx.execute(waiting)).scalar_one():
                return


async def test_only_a_later_change_says_that_the_database_keeps_changes_again(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "store.sqlite3"), ManualClock(NOW))
    await migrate(database)
    async with database.write() as tx:
        pages = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
        await tx.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreError):
        await add(database, *(replace(entry(f"/{'x' * 900}/{n}"), id=f"e{n}") for n in range(200)))
    full = "no change is kept since 2030-05-01T12:00:00Z: database or disk is full; make room on the disk; nothing of"
    assert database.not_written == f"{full} this change was kept"
    async with database.write() as tx:  # changes nothing, which a full disk permits
        await tx.execute(text(f"PRAGMA max_page_count = {pages + 1000}"))
    assert database.not_written.startswith(full)
    await add(database, entry("/kept"))
    assert database.not_written == ""
    await database.close()


async def test_a_writer_cancelled_in_a_statement_leaves_no_lock_behind(tmp_path: Path) -> None:
    """Also while a traceback refers to its frames: SQLite keeps a closed connection, and its lock, until the last
    cursor is gone.
    """
    database = Database(sqlite_url(tmp_path / "store.sqlite3"))
    await migrate(database)
    reading = asyncio.get_running_loop().create_future()

    async def write() -> None:
        async with database.write() as tx:
            await entries.insert_entries(tx, [entry("/lost")])
            rows = await tx.stream(text(_MANY_ROWS))
            reading.set_result(None)
            while await rows.fetchone():  # waits for the driver whenever the prefetched rows are used up
                pass

    writer = asyncio.create_task(write())
    await reading
    writer.cancel()
    with pytest.raises(asyncio.CancelledError) as remembered:
        await writer
    [kept] = await asyncio.wait_for(add(database, entry("/kept")), 5)
    assert await listed(database) == [kept]
    assert remembered.value.__traceback__ is not None
    await database.close()


@pytest.mark.parametrize("way", ["read", "write"])
async def test_a_task_cancelled_while_a_connection_opens_leaves_none_open(tmp_path: Path, way: str) -> None:
    """At every step: there are some forty before the first statement, each a wait for the driver."""
    remembered = []
    for step in range(80):
        file = tmp_path / f"{step}.sqlite3"
        database = Database(sqlite_url(file))
        using = asyncio.create_task(_used(database, way))
        for _ in range(step):
            await asyncio.sleep(0)
        using.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await using
        remembered.append(caught.value)
        await database.close()
        assert not _opened(file)


async def test_a_task_that_is_not_cancelled_has_an_open_connection(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite3"
    database = Database(sqlite_url(file))
    async with database.read():
        assert _opened(file)
    await database.close()
    assert not _opened(file)


async def _used(database: Database, way: str) -> None:
    async with database.read() if way == "read" else database.write():
        await asyncio.Event().wait()


def _opened(file: Path) -> bool:
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(file):
                return True
    return False


_MANY_ROWS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) SELECT x FROM n"
