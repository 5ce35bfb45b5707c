"""Two servers on one PostgreSQL: each signs with its own keys, and both see each other's changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.clock import SystemClock
from meshtls.errors import AccessError, LocalIdentityError, MeshtlsError, RequestError, RevokedError
from meshtls.revocation.lists import revocations_of
from meshtls.server.store.address import postgres_url
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.trust import Trust
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import issuer_key_id_of, key_id_of
from tests.support.clock import ManualClock
from tests.support.postgres import Postgres
from tests.support.server import TD, ServerUnderTest, config_for, entry, new_csr, started

WEB = SpiffeId(TD, "/web")
Pair = tuple[ServerUnderTest, ServerUnderTest]


@asynccontextmanager
async def pair_on(cluster: Postgres, directory: Path) -> AsyncIterator[Pair]:
    """Started at the same moment on an empty database."""
    url = postgres_url(cluster.new_database())
    async with AsyncExitStack() as opened:
        one, two = (started(config_for(directory / name, url)) for name in ("one", "two"))
        for name in ("one", "two"):
            (directory / name).mkdir()
        yield await opened.enter_async_context(one), await opened.enter_async_context(two)


@pytest.fixture
async def pair(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Pair]:
    async with pair_on(postgres, tmp_path) as both:
        yield both


async def both_know(pair: Pair) -> None:
    """Wait until each server publishes the other's authorities, which needs no further call."""
    for server in pair:
        while len((await server.admin.bundle()).x509_authorities) < 2:
            continue  # each check is a call that waits for its response


async def test_the_bundle_of_each_holds_the_authorities_of_both(pair: Pair) -> None:
    await both_know(pair)
    first, second = [await server.admin.bundle() for server in pair]
    assert first == second
    assert len(first.x509_authorities) == len(first.jwt_authorities) == 2
    assert pair[0].running.server_id != pair[1].running.server_id


async def test_each_signs_with_its_own_intermediate_and_both_are_trusted(pair: Pair) -> None:
    await both_know(pair)
    bundles = BundleSet([await pair[0].admin.bundle()])
    signers = set()
    for server in pair:
        chain = await server.admin.mint_x509(WEB, new_csr())
        peer = verify_peer([one.public_bytes(Encoding.DER) for one in chain], bundles, ManualClock().now())
        signers.add(peer.chain[1].fingerprint)
        token = await server.admin.mint_jwt(WEB, ["db"])
        assert parse_and_validate(token, bundles, "db", ManualClock().now()).spiffe_id == WEB
    records = [one async for one in pair[1].admin.issuances(spiffe_id=WEB)]
    assert {one.server_id for one in records} == {server.running.server_id for server in pair}
    assert len(records) == 4


async def test_an_agent_of_one_server_is_served_by_the_other_and_gets_its_entries(pair: Pair) -> None:
    await both_know(pair)
    one, two = pair
    agent = await one.new_agent()
    at_two = two.node_client(agent.svid, await two.admin.bundle())
    updates = at_two.sync()
    await anext(updates)
    [made] = await one.admin.create_entries([entry("/web", agent.spiffe_id)])
    assert (await anext(updates)).entries == (made,)
    [chain] = await at_two.sign_x509([(made.id, new_csr())])
    assert not isinstance(chain, MeshtlsError)
    await updates.aclose()


async def test_an_agent_banned_at_one_is_refused_at_once_by_the_other_and_its_stream_ends(pair: Pair) -> None:
    await both_know(pair)
    one, two = pair
    agent = await one.new_agent()
    at_two = two.node_client(agent.svid, await two.admin.bundle())
    updates = at_two.sync()
    await anext(updates)
    await one.admin.ban_agent(agent.spiffe_id)
    with pytest.raises(AccessError, match="is banned"):
        await at_two.bundle()
    with pytest.raises(AccessError, match="is banned"):
        _ = [update async for update in updates]


async def test_each_server_rotates_its_own_authority_and_the_agents_of_both_trust_all(pair: Pair) -> None:
    await both_know(pair)
    one, two = pair
    agent = await one.new_agent()
    at_two = two.node_client(agent.svid, await two.admin.bundle())
    updates = at_two.sync()
    old = {server.running.server_id: active for server in pair for active in await active_of(server)}
    assert len(old) == 2
    for server in pair:
        await server.admin.prepare_authority("x509")
        await server.admin.activate_authority("x509", force=True)
    while (update := await anext(updates)).bundles is None or len(update.bundles[TD].x509_authorities) < 4:
        continue  # each is a message of the server
    newer = await one.new_agent()
    updates_of_newer = two.node_client(newer.svid, await two.admin.bundle()).sync()
    for server, other in ((one, two), (two, one)):
        # The authority of the other is that one's own: its key is there.
        with pytest.raises(RequestError):
            await server.admin.activate_authority("x509", old[other.running.server_id])
        await server.admin.taint_authority("x509", old[server.running.server_id])
        await server.admin.revoke_authority("x509", old[server.running.server_id], force=True)
        chain = await server.admin.mint_x509(WEB, new_csr())
        assert issuer_key_id_of(chain[-1]) not in old.values()
    while (update := await anext(updates_of_newer)).bundles is None or len(update.bundles[TD].x509_authorities) > 2:
        continue
    with pytest.raises(LocalIdentityError):  # what the first agent has hangs on an authority that was revoked
        [_ async for _ in updates]
    assert set(old.values()) <= set(update.tainted)
    assert {key_id_of(root) for root in update.bundles[TD].x509_authorities}.isdisjoint(old.values())
    await updates_of_newer.aclose()


async def active_of(server: ServerUnderTest) -> list[str]:
    """The id of the X.509 authority with which this server signs."""
    return [
        found.id
        for found in await server.admin.authorities()
        if (found.kind, found.state, found.server_id) == ("x509", "ACTIVE", server.running.server_id)
    ]


async def test_a_revocation_at_one_server_is_in_the_crl_of_the_server_that_issued_the_svid(pair: Pair) -> None:
    await both_know(pair)
    one, two = pair
    agent = await one.new_agent()
    updates = one.node_client(agent.svid, agent.bundle).sync()
    chains = [await server.admin.mint_x509(WEB, new_csr()) for server in pair]
    revoked = await one.admin.revoke(Subject(SubjectKind.SPIFFE_ID, str(WEB)))
    assert (revoked.certificates, revoked.of_other_servers) == (2, 1)
    while len((update := await anext(updates)).crls) < 2:
        continue  # each is a message of the server
    trust = Trust(1, BundleSet([await one.admin.bundle()]), revocations_of(update.crls))
    for chain in chains:
        with pytest.raises(RevokedError):
            verify_peer([part.public_bytes(Encoding.DER) for part in chain], trust, SystemClock().now())
    other = await two.admin.mint_x509(SpiffeId(TD, "/db"), new_csr())
    verify_peer([part.public_bytes(Encoding.DER) for part in other], trust, SystemClock().now())
    await updates.aclose()


async def test_a_join_token_of_one_server_is_good_once_at_both(pair: Pair) -> None:
    one, two = pair
    token = (await one.admin.create_join_token()).token
    clients = [await server.attestation() for server in (one, two, one, two)]
    tries = await asyncio.gather(*(client.with_token(token, new_csr()) for client in clients), return_exceptions=True)
    assert sorted(type(result).__name__ for result in tries) == ["AccessError"] * 3 + ["Attested"]


async def test_a_database_that_crashes_and_comes_back_is_found_again(tmp_path: Path, own_postgres: Postgres) -> None:
    async with pair_on(own_postgres, tmp_path) as (one, two):
        agent = await one.new_agent()
        [made] = await one.admin.create_entries([entry("/web", agent.spiffe_id)])
        own_postgres.kill()
        with pytest.raises(LocalIdentityError, match="^data store postgresql://"):
            await one.admin.create_entries([entry("/db", agent.spiffe_id)])
        assert not (await one.admin.health()).ready
        own_postgres.start()
        await one.admin.create_entries([entry("/db", agent.spiffe_id)])
        assert await two.admin.entry(made.id) == made
        assert (await one.admin.health()).ready
