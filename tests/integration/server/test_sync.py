"""An agent's sync: changes are sent at once, only those that concern it, and from its revision on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from grpclib import GRPCError
from sqlalchemy import URL

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import AccessError, LocalIdentityError, RequestError
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import Entry
from meshtls.serverapi.channels import local_channel
from meshtls.serverapi.messages import bundle_message, bundles_of
from meshtls.serverapi.values import SyncUpdate
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.server import TD, ServerUnderTest, config_for, entry, started

Updates = AsyncGenerator[SyncUpdate]
OTHER = TrustDomain("b.test")
# The sleepers on the clock of an idle server on SQLite: its own SVID's renewal, the cleanup, and one agent's stream.
ALL_ASLEEP = 3


def paths(update: SyncUpdate) -> list[str]:
    return sorted(one.spiffe_id.path for one in update.entries)


async def heard(updates: Updates) -> tuple[bool, list[str], tuple[str, ...]]:
    update = await anext(updates)
    return update.whole, paths(update), update.removed


async def test_an_agent_is_sent_everything_first_and_then_each_change_as_it_happens(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [web] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    updates = agent.client.sync()
    first = await anext(updates)
    assert (first.whole, first.entries, first.removed) == (True, (web,), ())
    assert first.bundles is not None
    assert first.bundles[TD] == await server.admin.bundle()
    await server.admin.create_entries([entry("/db", agent.spiffe_id)])
    assert await heard(updates) == (False, ["/db"], ())
    changed = await server.admin.update_entry(replace(web, hint="new"))
    assert (await anext(updates)).entries == (changed,)
    await server.admin.delete_entries([web.id])
    assert await heard(updates) == (False, [], (web.id,))
    await updates.aclose()


async def test_a_new_entry_is_sent_without_the_clock_moving(tmp_path: Path) -> None:
    clock = ManualClock()
    async with started(config_for(tmp_path), clock) as server:
        agent = await server.new_agent()
        updates = agent.client.sync()
        await anext(updates)
        before = clock.monotonic()
        await server.admin.create_entries([entry("/web", agent.spiffe_id)])
        assert await heard(updates) == (False, ["/web"], ())
        assert clock.monotonic() - before == 0
        await updates.aclose()


async def test_an_agent_is_not_sent_entries_of_others(server: ServerUnderTest) -> None:
    mine, other = await server.new_agent(), await server.new_agent()
    updates = mine.client.sync()
    await anext(updates)
    await server.admin.create_entries([entry("/theirs", other.spiffe_id)])
    await server.admin.create_entries([entry("/mine", mine.spiffe_id)])
    assert await heard(updates) == (False, ["/mine"], ())
    await updates.aclose()


async def test_an_entry_that_moves_to_another_agent_is_taken_from_the_first(server: ServerUnderTest) -> None:
    first, second = await server.new_agent(), await server.new_agent()
    [web] = await server.admin.create_entries([entry("/web", first.spiffe_id)])
    at_first, at_second = first.client.sync(), second.client.sync()
    assert await heard(at_first) == (True, ["/web"], ())
    assert await heard(at_second) == (True, [], ())
    await server.admin.update_entry(replace(web, parent_id=second.spiffe_id))
    assert await heard(at_first) == (False, [], (web.id,))
    assert await heard(at_second) == (False, ["/web"], ())
    await at_first.aclose()
    await at_second.aclose()


async def test_a_branch_comes_and_goes_with_the_entry_that_carries_it(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    cluster = SpiffeId(TD, "/cluster")
    await server.admin.create_entries([entry("/web", cluster), entry("/db", cluster)])
    updates = agent.client.sync()
    assert await heard(updates) == (True, [], ())
    [carrier] = await server.admin.create_entries([entry("/cluster", agent.spiffe_id, f"spiffe_id:{agent.spiffe_id}")])
    assert await heard(updates) == (True, ["/cluster", "/db", "/web"], ())
    await server.admin.delete_entries([carrier.id])
    assert await heard(updates) == (True, [], ())
    await updates.aclose()


async def test_an_agent_that_reconnects_is_sent_only_the_changes_it_missed(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    kept, gone = await server.admin.create_entries([entry("/kept", agent.spiffe_id), entry("/gone", agent.spiffe_id)])
    updates = agent.client.sync()
    known = (await anext(updates)).revision
    await updates.aclose()
    await server.admin.delete_entries([gone.id])
    await server.admin.create_entries([entry("/new", agent.spiffe_id)])
    again = agent.client.sync(known)
    update = await anext(again)
    assert (update.whole, paths(update), update.removed) == (False, ["/new"], (gone.id,))
    assert update.bundles is not None, "the bundles are sent on each new stream"
    await again.aclose()
    idle = agent.client.sync(update.revision)
    assert await heard(idle) == (False, [], ())
    await idle.aclose()
    assert kept.id not in update.removed


async def test_an_agent_with_a_future_or_a_pruned_revision_is_sent_everything(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    for revision in (0, 10**9):
        updates = agent.client.sync(revision)
        assert await heard(updates) == (True, ["/web"], ())
        await updates.aclose()


async def test_an_agent_is_sent_our_bundle_and_those_its_entries_federate_with(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    theirs, unneeded = make_authority("b.test").bundle, make_authority("c.test").bundle
    await server.admin.set_bundle(theirs)
    await server.admin.set_bundle(unneeded)
    updates = agent.client.sync()
    assert domains(await anext(updates)) == ["example.org"]
    [web] = await server.admin.create_entries([entry("/web", agent.spiffe_id, federates_with=(OTHER,))])
    assert domains(await anext(updates)) == ["b.test", "example.org"]
    newer = make_authority("b.test").bundle
    await server.admin.set_bundle(newer)
    told = (await anext(updates)).bundles
    assert told is not None
    assert told[OTHER].x509_authorities == newer.x509_authorities
    await server.admin.update_entry(replace(web, federates_with=()))
    assert domains(await anext(updates)) == ["example.org"]
    await server.admin.delete_bundle(OTHER)
    assert [one.trust_domain for one in await server.admin.bundles()] == [TrustDomain("c.test")]
    await updates.aclose()


async def test_a_key_that_cannot_be_used_is_left_out_of_what_an_administrator_sets_and_the_rest_reaches_the_agent(
    server: ServerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    agent = await server.new_agent()
    await server.admin.create_entries([entry("/web", agent.spiffe_id, federates_with=(OTHER,))])
    theirs = replace(make_authority("b.test").bundle, sequence=2**64 - 1)
    document = json.loads(theirs.to_jwks())
    document["keys"].insert(0, {"kty": "EC", "use": "jwt-svid", "kid": "odd"})
    stub = server_grpc.BundlesStub(server.keep(local_channel(server.running.socket_path)))
    await stub.SetBundle(server_pb.Bundle(trust_domain="b.test", document=json.dumps(document)))
    assert await server.admin.bundles() == [theirs]
    assert len([one for one in caplog.messages if "left out a JWT authority: wanted a public EC key 'odd'" in one]) == 1
    updates = agent.client.sync()
    told = (await anext(updates)).bundles
    assert told is not None
    assert told[OTHER] == theirs
    await updates.aclose()
    document["keys"] = document["keys"][:1]
    with pytest.raises(
        GRPCError, match="wanted at least one usable key, got none; SPIFFE bundle of trust domain b.test"
    ):
        await stub.SetBundle(server_pb.Bundle(trust_domain="b.test", document=json.dumps(document)))


def test_a_document_of_the_server_that_cannot_be_read_costs_its_own_trust_domain_only() -> None:
    ours, theirs = make_authority().bundle, make_authority("b.test").bundle
    messages = [
        server_pb.Bundle(trust_domain="", document="{}"),
        server_pb.Bundle(trust_domain="b.test", document='{"keys": 1}'),
        bundle_message(ours),
    ]
    found = bundles_of(messages)
    assert found == BundleSet([TrustBundle(theirs.trust_domain), ours])
    assert len(found.unusable) == 2
    assert bundles_of([bundle_message(ours), bundle_message(theirs)]) == BundleSet([ours, theirs])


def domains(update: SyncUpdate) -> list[str] | None:
    return None if update.bundles is None else sorted(str(one.trust_domain) for one in update.bundles)


async def test_our_own_bundle_cannot_be_set_or_deleted_and_an_empty_one_is_refused(server: ServerUnderTest) -> None:
    message = "^trust domain example.org: its bundle is this server's own; the servers maintain it$"
    with pytest.raises(RequestError, match=message):
        await server.admin.set_bundle(make_authority().bundle)
    with pytest.raises(RequestError, match=message):
        await server.admin.delete_bundle(TD)
    with pytest.raises(
        RequestError, match=r"^bundle of trust domain b.test: wanted at least one usable key, got none$"
    ):
        await server.admin.set_bundle(TrustBundle(OTHER))


@pytest.mark.parametrize(("how", "message"), [("ban", "is banned"), ("evict", "is not attested, or was evicted")])
async def test_the_stream_of_an_agent_that_is_banned_or_evicted_ends(
    how: str, message: str, server: ServerUnderTest
) -> None:
    agent, other = await server.new_agent(), await server.new_agent()
    updates, others = agent.client.sync(), other.client.sync()
    await anext(updates)
    await anext(others)
    if how == "ban":
        await server.admin.ban_agent(agent.spiffe_id)
    else:
        await server.admin.evict_agent(agent.spiffe_id)
    with pytest.raises(AccessError, match=message):
        await anext(updates)
    if how == "ban":
        assert len((await anext(others)).crls) == 1  # what the banned agent had is revoked
    await server.admin.create_entries([entry("/web", other.spiffe_id)])
    assert await heard(others) == (False, ["/web"], ())
    await others.aclose()


async def test_an_idle_sync_sends_heartbeats(tmp_path: Path) -> None:
    clock = ManualClock()
    async with started(config_for(tmp_path), clock) as server:
        agent = await server.new_agent()
        updates = agent.client.sync()
        await anext(updates)
        await clock.until_sleepers(ALL_ASLEEP)
        clock.advance(30)
        update = await anext(updates)
        assert (update.whole, update.entries, update.removed, update.bundles) == (False, (), (), None)
        await updates.aclose()


async def test_the_stream_of_an_agent_whose_certificate_ends_ends_too(tmp_path: Path) -> None:
    clock = ManualClock()
    async with started(config_for(tmp_path), clock) as server:
        agent = await server.new_agent()
        updates = agent.client.sync()
        await anext(updates)
        await clock.until_sleepers(ALL_ASLEEP)
        clock.advance(3590)
        assert await heard(updates) == (False, [], ())
        await clock.until_sleepers(ALL_ASLEEP)
        clock.advance(30)
        with pytest.raises(LocalIdentityError, match="connect again with a newer one"):
            _ = [update async for update in updates]


async def test_a_restarted_server_tells_from_where_the_agent_left_off(tmp_path: Path, store_url: URL) -> None:
    config = config_for(tmp_path, store_url)
    async with started(config) as server:
        agent = await server.new_agent()
        await server.admin.create_entries([entry("/web", agent.spiffe_id)])
        updates = agent.client.sync()
        known = (await anext(updates)).revision
        await updates.aclose()
        bundle = await server.admin.bundle()
    async with started(config) as server:
        assert (await server.admin.bundle()).x509_authorities == bundle.x509_authorities
        new: list[Entry] = await server.admin.create_entries([entry("/db", agent.spiffe_id)])
        again = server.node_client(agent.svid, agent.bundle).sync(known)
        update = await anext(again)
        assert (update.whole, update.entries) == (False, tuple(new))
        await again.aclose()
