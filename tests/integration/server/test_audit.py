"""The audit trail: a record of each act, in its transaction, in one chain, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from meshtls.errors import ConflictError, LogProofError, MeshtlsError, NotFoundError
from meshtls.observe.audit import AuditLine, AuditRecord, ChainCheck
from meshtls.server.audit import AuditTrail
from meshtls.server.store.audit import list_audit, prune_audit
from meshtls.server.store.database import Database
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.server import TD, ServerUnderTest, entry, new_csr

WEB = SpiffeId(TD, "/web")
NODE = SpiffeId(TD, "/node")


async def trail_of(server: ServerUnderTest) -> list[AuditRecord]:
    lines = [line async for line in server.admin.audit(page_size=7)]
    ChainCheck().add(lines)
    return [AuditRecord.parse(line.record) for line in lines]


async def last_of(server: ServerUnderTest) -> AuditRecord:
    return (await trail_of(server))[-1]


def svids(record: AuditRecord) -> list[Mapping[str, Any]]:
    assert record.after is not None
    found: list[Mapping[str, Any]] = record.after["svids"]
    return found


async def test_each_act_is_recorded_with_who_did_it_and_what_changed(server: ServerUnderTest) -> None:
    admin, mine = server.admin, server.running.server_id
    agent = await server.new_agent()
    attested = await last_of(server)
    assert (attested.act, attested.subject, attested.credential) == (
        "attest agent",
        str(agent.spiffe_id),
        "a join token",
    )
    assert (attested.role, attested.name, attested.server_id) == ("an anonymous client", "node 127.0.0.1", mine)

    [made] = await admin.create_entries([entry("/web", agent.spiffe_id)])
    created = await last_of(server)
    assert (created.act, created.role, created.name) == ("create entry", "an administrator", "uid 0")
    assert (created.credential, created.subject, created.before) == ("the admin socket", str(WEB), None)
    changed = await admin.update_entry(replace(made, hint="x"))
    updated = await last_of(server)
    assert updated.act == "update entry"
    assert updated.before == created.after
    assert updated.after == {**(created.after or {}), "hint": "x", "revision": changed.revision}

    [chain] = await agent.client.sign_x509([(made.id, new_csr())])
    assert not isinstance(chain, MeshtlsError)
    signed = await last_of(server)
    assert (signed.act, signed.role, signed.name) == ("sign X509-SVIDs", "an agent", str(agent.spiffe_id))
    assert signed.credential == f"X509-SVID {agent.svid.serial}"
    [svid] = svids(signed)
    assert (svid["serial"], svid["entry_id"], svid["spiffe_id"]) == (format_serial(chain[0]), made.id, str(WEB))
    await agent.client.sign_jwt(made.id, ["db"])
    assert (await last_of(server)).act == "sign JWT-SVID"
    await agent.client.renew(new_csr())
    assert (await last_of(server)).act == "renew agent"

    await admin.mint_x509(WEB, new_csr())
    assert (await last_of(server)).act == "mint X509-SVID"
    await admin.mint_jwt(WEB, ["db"])
    assert (await last_of(server)).act == "mint JWT-SVID"
    await admin.delete_entries([made.id])
    deleted = await last_of(server)
    assert (deleted.act, deleted.before, deleted.after) == ("delete entry", updated.after, None)

    partner = make_authority("partner.test").bundle
    await admin.set_bundle(partner)
    bundle = await last_of(server)
    assert (bundle.act, bundle.subject, bundle.before) == ("set bundle", "partner.test", None)
    await admin.delete_bundle(partner.trust_domain)
    assert ((await last_of(server)).act, (await last_of(server)).before) == ("delete bundle", bundle.after)

    await admin.ban_agent(agent.spiffe_id)
    banned = await last_of(server)
    assert (banned.act, banned.before, banned.after) == (
        "ban agent",
        {**(banned.after or {}), "banned": False},
        {**(banned.before or {}), "banned": True},
    )
    await admin.evict_agent(agent.spiffe_id)
    assert ((await last_of(server)).act, (await last_of(server)).before) == ("evict agent", banned.after)


async def test_act_that_fails_is_not_recorded(server: ServerUnderTest) -> None:
    await server.admin.create_entries([entry("/web", NODE)])
    before = await trail_of(server)
    with pytest.raises(ConflictError):
        await server.admin.create_entries([entry("/db", NODE), entry("/web", NODE)])
    with pytest.raises(NotFoundError):
        await server.admin.delete_entries(["none"])
    with pytest.raises(NotFoundError):
        await server.admin.ban_agent(WEB)
    assert await trail_of(server) == before


async def test_no_secret_is_in_the_trail(server: ServerUnderTest) -> None:
    token = await server.admin.create_join_token()
    jwt = await server.admin.mint_jwt(WEB, ["db"])
    records = b"\n".join([line.record async for line in server.admin.audit()])
    assert b"create join token" in records
    for secret in (token.token, *jwt.split(".")):
        assert secret.encode() not in records


async def test_large_states_are_recorded_by_their_digest(server: ServerUnderTest) -> None:
    many = [f"unix:path:/{'x' * 200}{number}" for number in range(100)]
    await server.admin.create_entries([entry("/web", NODE, *many)])
    after = (await last_of(server)).after
    assert after is not None
    assert set(after) == {"sha256", "bytes"}
    assert after["bytes"] > 20_000


async def written(database: Database, count: int) -> list[AuditLine]:
    trail = AuditTrail("server-1", ManualClock())
    for number in range(count):
        async with database.write() as tx:
            await trail.append(tx, [trail.record(None, "act", number)])
    return await lines_of(database)


async def lines_of(database: Database) -> list[AuditLine]:
    async with database.read() as tx:
        return await list_audit(tx, 0, 1000)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            "UPDATE audit SET record = replace(record, 'act', 'fact') WHERE number = 3",
            "audit record 3: it, or its hash, was changed after it was written",
        ),
        ("DELETE FROM audit WHERE number = 3", "audit record 3: missing; 4 follows 2"),
        (
            "UPDATE audit SET hash = (SELECT head FROM audit_state) WHERE number = 2",
            "audit record 2: it, or its hash, was changed after it was written",
        ),
        ("DELETE FROM audit WHERE number > 4", "audit record 6: it is known to exist, and is missing"),
    ],
)
async def test_trail_that_was_changed_is_detected(edit: str, message: str, database: Database) -> None:
    lines = await written(database, 6)
    whole = ChainCheck({6: lines[-1].hash})
    whole.add(lines)
    whole.finish()
    async with database.write() as tx:
        await tx.execute(text(edit))
    check = ChainCheck({6: lines[-1].hash})
    with pytest.raises(LogProofError) as refused:
        _checked(check, await lines_of(database))
    assert str(refused.value) == message


def _checked(check: ChainCheck, lines: list[AuditLine]) -> None:
    check.add(lines)
    check.finish()


async def test_rewritten_trail_is_detected_by_a_head_that_was_noted(database: Database) -> None:
    lines = await written(database, 3)
    other = ChainCheck({3: bytes(32)})
    with pytest.raises(LogProofError, match=r"^audit record 3: its hash is not the known one; the trail was"):
        other.add(lines)


async def test_oldest_records_are_pruned_and_the_rest_is_one_chain(database: Database) -> None:
    await written(database, 9)
    async with database.write() as tx:
        assert await prune_audit(tx, keep=5, most=3) == 3
    async with database.write() as tx:
        assert await prune_audit(tx, keep=5, most=3) == 4
    async with database.write() as tx:
        assert await prune_audit(tx, keep=5, most=3) == 0
    check = ChainCheck()
    check.add(await lines_of(database))
    assert check.first is not None
    assert check.last is not None
    assert (check.first.number, check.last.number) == (5, 9)


async def test_two_trails_on_one_database_form_one_chain(database: Database) -> None:
    trails = [AuditTrail(name, ManualClock()) for name in ("server-1", "server-2")]
    for number in range(6):
        trail = trails[number % 2]
        async with database.write() as tx:
            await trail.append(tx, [trail.record(None, "act", number), trail.record(None, "and", number)])
    lines = await lines_of(database)
    ChainCheck().add(lines)
    assert [line.number for line in lines] == list(range(1, 13))
