"""An agent and a real server: attestation, synced entries, a server that is restarted, a ban."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.proof import JoinToken, NodeCertificate, NodeProof
from meshtls.agent.node.store import NodeStore, opened_store
from meshtls.agent.node.upstream import ServerAddress, ServerUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.bundle import TrustBundle
from meshtls.errors import ConfigError
from meshtls.registration import agent_id
from meshtls.server.settings import ServerConfig, X509PopConfig
from meshtls.server.store.database import Database
from meshtls.server.store.revocations import StoredCrl, put_crl
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from tests.support.agent import SELF, eventually, http_get, short_directory
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.server import TD, ServerUnderTest, config_for, entry, started
from tests.support.waiting import SECONDS

WEB, DB = SpiffeId(TD, "/web"), SpiffeId(TD, "/db")


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


def stable(config: ServerConfig, server: ServerUnderTest) -> ServerConfig:
    """The configuration with the ports of the running server, to restart it at the same address."""
    return replace(config, bind_port=server.running.address[1], attest_port=server.running.attest_address[1])


def address(server: ServerUnderTest) -> ServerAddress:
    host, port = server.running.address
    return ServerAddress(host, port, server.running.attest_address[1])


@asynccontextmanager
async def agent_of(
    server: ServerAddress,
    bundle: TrustBundle,
    proof: NodeProof | None,
    directory: Path,
    clock: ManualClock,
    store: NodeStore | None = None,
) -> AsyncIterator[Agent]:
    identity = NodeIdentity(bundle, store, clock)
    upstream = ServerUpstream(server, identity, proof, clock, lambda: 0.0)
    endpoint = Endpoint(directory / "agent.sock", health=("127.0.0.1", 0))
    agent = Agent(endpoint, upstream, clock, jitter=lambda: 0.0)
    async with upstream, agent:
        yield agent


async def token_and_parent(server: ServerUnderTest) -> tuple[JoinToken, SpiffeId]:
    made = await server.admin.create_join_token()
    return JoinToken(made.token), made.agent_id


async def ids(agent: Agent) -> list[str]:
    async with WorkloadApiClient(agent.address) as client:
        return [str(svid.spiffe_id) for svid in (await client.fetch_x509_context()).svids]


async def until(agent: Agent, *wanted: SpiffeId) -> X509Context:
    """Follow the Workload API until it gives us exactly these IDs."""
    async with WorkloadApiClient(agent.address) as client, aclosing(client.watch_x509_contexts()) as contexts:
        async for context in contexts:
            if [svid.spiffe_id for svid in context.svids] == list(wanted):
                return context
    raise AssertionError("the stream ended")


async def test_creating_an_entry_gives_the_workload_an_svid_and_deleting_it_takes_it_away(
    directory: Path,
) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        async with agent_of(address(server), await server.admin.bundle(), token, directory, clock) as agent:
            await agent.ready()
            async with WorkloadApiClient(agent.address) as client, aclosing(client.watch_x509_contexts()) as contexts:
                assert [svid.spiffe_id for svid in (await anext(contexts)).svids] == [WEB]
                [made] = await server.admin.create_entries([entry("/db", parent, SELF)])
                assert [svid.spiffe_id for svid in (await anext(contexts)).svids] == [WEB, DB]
                await server.admin.delete_entries([made.id])
                assert [svid.spiffe_id for svid in (await anext(contexts)).svids] == [WEB]
            # No task waited for a timer: every change was pushed.
            assert clock.monotonic() == 0


async def test_crl_that_cannot_be_read_is_logged_once_an_update(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    config = config_for(directory)
    async with started(config, clock):
        pass
    database = Database(config.datastore)
    async with database.write() as tx:
        await put_crl(tx, StoredCrl("00", "another", 1, b"no CRL", clock.now() + timedelta(days=1)))
    await database.close()
    async with started(config, clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        caplog.clear()  # the server's own warning
        async with agent_of(address(server), await server.admin.bundle(), token, directory, clock) as agent:
            await agent.ready()
            await until(agent, WEB)
    told = [one for one in caplog.messages if one.startswith("a CRL of the server can't be used, and is left out: ")]
    assert len(told) == 1


async def test_jwt_svids_are_the_servers_and_validate_by_its_bundle(directory: Path) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        async with agent_of(address(server), await server.admin.bundle(), token, directory, clock) as agent:
            await agent.ready()
            async with WorkloadApiClient(agent.address) as client:
                [svid] = await client.fetch_jwt_svids(["db"])
                assert (await client.validate_jwt_svid(svid.token, "db")).spiffe_id == WEB


async def test_while_the_server_is_away_the_agent_serves_what_is_valid_and_it_recovers_by_itself(
    directory: Path,
) -> None:
    clock = ManualClock()
    config = config_for(directory)
    async with started(config, clock) as server:
        config = stable(config, server)
    async with started(config, clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        where, bundle = address(server), await server.admin.bundle()
        serving = agent_of(where, bundle, token, directory, clock)
        agent = await serving.__aenter__()
        await agent.ready()
        async with WorkloadApiClient(agent.address) as client:
            [cached] = await client.fetch_jwt_svids(["db"])
    try:
        async with WorkloadApiClient(agent.address) as client:
            assert (await client.fetch_x509_context()).svid.spiffe_id == WEB
            assert await client.fetch_jwt_svids(["db"]) == (cached,)
            with pytest.raises(WorkloadApiError, match="UNAVAILABLE: JWT-SVID of spiffe://example.org/web: the server"):
                await client.fetch_jwt_svids(["another"])
        async with started(config, clock) as server:
            await server.admin.create_entries([entry("/db", parent, SELF)])
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
                arrives = tasks.create_task(until(agent, WEB, DB))
                await eventually(arrives.done, clock)
    finally:
        await serving.__aexit__(None, None, None)


async def test_readiness_ends_with_the_svids_while_the_server_is_away_and_comes_back_with_it(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # OpenSSL uses the machine's clock: the server's later certificates have to be valid by it, too.
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=20))
    config = config_for(directory)
    async with started(config, clock) as server:
        config = stable(config, server)
    async with started(config, clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF, x509_svid_ttl=600)])
        serving = agent_of(address(server), await server.admin.bundle(), token, directory, clock)
        agent = await serving.__aenter__()
        await agent.ready()
        assert await http_get(agent.health_port, "/ready") == ("HTTP/1.1 200 OK", f"ready\n{agent.process}\n")
    try:
        await eventually(lambda: agent.identities.upstream.trouble is not None)
        assert re.fullmatch(
            rf"the server at {address(server)}, try 1 since [^ ]+Z: .*; the first SVID expires in 600 s",
            agent.readiness().text,
        )
        clock.advance(560)
        await eventually(lambda: "renewal failing" in agent.readiness().text)
        status, body = await http_get(agent.health_port, "/ready")
        assert status == "HTTP/1.1 200 OK"
        assert body.startswith("ready; SVID spiffe://example.org/web expires in 40 s, renewal failing since ")
        clock.advance(42)
        with pytest.raises(WorkloadApiError, match="UNAVAILABLE: no X509-SVID is valid now: "):
            await ids(agent)
        status, body = await http_get(agent.health_port, "/ready")
        assert status == "HTTP/1.1 503 Service Unavailable"
        assert body.startswith(
            "waiting for a valid SVID for 1 of 1 entries: SVID spiffe://example.org/web expired 2 s ago, renewal fail"
        )
        async with started(config, clock):
            await eventually(lambda: agent.readiness().ready, clock)
            assert await ids(agent) == [str(WEB)]
    finally:
        await serving.__aexit__(None, None, None)
    # One for each state, not one for each try.
    told = [one.getMessage() for one in caplog.records if one.name == "meshtls.agent" and one.levelname == "WARNING"]
    assert [" is valid until " in one for one in told if "could not be signed" in one] == [True, False]
    assert len([one for one in told if one.startswith("SVIDs are signed again after ")]) == 1


async def test_callers_before_the_first_server_contact_get_the_reason_and_are_served_after_it(directory: Path) -> None:
    clock = ManualClock()
    config = config_for(directory)
    async with started(config, clock) as server:
        config = stable(config, server)
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        where, bundle = address(server), await server.admin.bundle()
    async with agent_of(where, bundle, token, directory, clock) as agent:
        await eventually(lambda: agent.identities.upstream.trouble is not None)
        with pytest.raises(WorkloadApiError, match="UNAVAILABLE: the agent is waiting for the entries: the server at"):
            await ids(agent)
        assert "the server can't be reached" in agent.readiness().text
        async with started(config, clock):
            await eventually(lambda: agent.readiness().ready, clock)
            assert await ids(agent) == [str(WEB)]


async def test_the_agents_svid_is_renewed_at_half_life_and_its_work_goes_on(directory: Path) -> None:
    # OpenSSL uses the machine's clock: certificates from before and after the renewal have to be valid by it.
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=32))
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        async with agent_of(address(server), await server.admin.bundle(), token, directory, clock) as agent:
            await agent.ready()
            [first] = (await server.admin.agent(parent)).serials

            async def in_use() -> bool:
                serials = (await server.admin.agent(parent)).serials
                return len(serials) == 1 and serials != (first,)

            clock.advance(1801)
            await eventually(in_use)
            await server.admin.create_entries([entry("/db", parent, SELF)])
            await until(agent, WEB, DB)
            await server.admin.ban_agent(parent)
            await eventually(lambda: _denied(agent))


async def test_an_agents_svid_is_renewed_before_its_end_by_a_server_that_comes_back_late(directory: Path) -> None:
    # OpenSSL uses the machine's clock: by it, certificates issued at second 75 and expiring at 90 have to be valid.
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=66)
    clock, servers_clock = ManualClock(start), ManualClock(start)
    config = config_for(directory, agent_ttl=timedelta(seconds=90))
    async with started(config, servers_clock) as server:
        config, where, bundle = stable(config, server), address(server), await server.admin.bundle()
        token, _ = await token_and_parent(server)
        identity = NodeIdentity(bundle, None, clock)
        upstream = ServerUpstream(where, identity, token, clock, lambda: 0.0)
        await upstream.__aenter__()
        await upstream.sign_x509([])
        await clock.until_sleepers()
        first = identity.svid
        assert first is not None
    try:
        # The token is used up: once its SVID has expired, no server accepts this agent again.
        while clock.now() < first.not_after - timedelta(seconds=20):
            clock.advance(clock.wakes_in[0])
            await clock.until_sleepers()
        servers_clock.advance(clock.monotonic())
        async with started(config, servers_clock):
            while identity.svid == first and identity.valid:
                clock.advance(clock.wakes_in[0])
                await clock.until_sleepers()
        assert identity.valid
        assert identity.svid is not None
        assert identity.svid.not_after > first.not_after
    finally:
        await upstream.__aexit__(None, None, None)


async def test_a_banned_agent_serves_nobody(directory: Path) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        async with agent_of(address(server), await server.admin.bundle(), token, directory, clock) as agent:
            await agent.ready()
            async with WorkloadApiClient(agent.address) as client:
                failures: list[Exception] = []
                async with aclosing(client.watch_x509_contexts(failures.append)) as contexts:
                    assert (await anext(contexts)).svid.spiffe_id == WEB
                    waiting = asyncio.ensure_future(anext(contexts))
                    await server.admin.ban_agent(parent)
                    await eventually(lambda: bool(failures))
                    waiting.cancel()
                    await asyncio.wait([waiting])
            # Workloads have to stop using what they have.
            why = f"the server refuses this agent: agent {parent} is banned"
            assert str(failures[0]).endswith(f"PERMISSION_DENIED: no identity issued: {why}")
            assert re.search(rf"try 1 since [^ ]+: agent {parent} is banned$", agent.readiness().text)
            assert await http_get(agent.health_port, "/ready") == (
                "HTTP/1.1 503 Service Unavailable",
                f"waiting for {agent.readiness().text}\n{agent.process}\n",
            )


async def test_an_agent_that_was_banned_before_it_restarted_has_workloads_stop_using_what_they_have(
    directory: Path,
) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        where, bundle = address(server), await server.admin.bundle()
        with opened_store(directory / "data") as store:
            async with agent_of(where, bundle, token, directory, clock, store) as agent:
                await agent.ready()
        await server.admin.ban_agent(parent)
        with opened_store(directory / "data") as store:
            async with agent_of(where, bundle, None, directory, clock, store) as agent:
                await eventually(lambda: f"agent {parent} is banned" in agent.readiness().text)
                async with WorkloadApiClient(agent.address) as client:
                    why = f"no identity issued: the server refuses this agent: agent {parent} is banned"
                    with pytest.raises(WorkloadApiError, match=f"PERMISSION_DENIED: {why}"):
                        await client.fetch_x509_context()


async def test_a_new_agent_whose_token_is_refused_says_that_it_waits(directory: Path) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        where, bundle = address(server), await server.admin.bundle()
        async with agent_of(where, bundle, JoinToken("never-made"), directory, clock) as agent:
            await eventually(lambda: "join token" in agent.readiness().text)
            async with WorkloadApiClient(agent.address) as client:
                with pytest.raises(WorkloadApiError, match="UNAVAILABLE: the agent is waiting for the entries: "):
                    await client.fetch_x509_context()


async def test_a_restarted_agent_goes_on_with_the_svid_that_it_kept(directory: Path) -> None:
    clock = ManualClock()
    data = directory / "data"
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        where, bundle = address(server), await server.admin.bundle()
        for proof in (token, None):
            with opened_store(data) as store:
                async with agent_of(where, bundle, proof, directory, clock, store) as agent:
                    await agent.ready()
                    assert await ids(agent) == [str(WEB)]
    assert {(file.name, stat.S_IMODE(file.stat().st_mode)) for file in data.iterdir()} == {
        ("agent-svid.pem", 0o600),
        ("bundle.json", 0o600),
    }


async def test_an_agent_without_a_proof_withdraws_nothing_while_the_server_is_away(directory: Path) -> None:
    """Its own SVID ends, and it has nothing to attest with: that is no refusal by the server."""
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0))  # OpenSSL uses the machine's
    config = replace(config_for(directory), agent_ttl=timedelta(seconds=600))
    with opened_store(directory / "data") as store:
        async with started(config, clock) as server:
            token, parent = await token_and_parent(server)
            await server.admin.create_entries([entry("/web", parent, SELF, x509_svid_ttl=7200)])
            where, bundle = address(server), await server.admin.bundle()
            async with agent_of(where, bundle, token, directory, clock, store) as agent:
                await agent.ready()
            serving = agent_of(where, bundle, None, directory, clock, store)
            agent = await serving.__aenter__()
            await agent.ready()
        try:
            await eventually(lambda: agent.identities.upstream.trouble is not None)
            clock.advance(601)
            await eventually(lambda: "no valid SVID: give it" in (agent.identities.upstream.trouble or ""), clock)
            assert await ids(agent) == [str(WEB)]
            assert agent.readiness().ready
        finally:
            await serving.__aexit__(None, None, None)


async def test_without_a_data_directory_a_token_that_was_used_does_not_bring_the_agent_back(directory: Path) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        token, _ = await token_and_parent(server)
        where, bundle = address(server), await server.admin.bundle()
        async with agent_of(where, bundle, token, directory, clock) as agent:
            await agent.ready()
        async with agent_of(where, bundle, token, directory, clock) as agent:
            await eventually(lambda: agent.identities.upstream.trouble is not None)
            assert "join token: it is unknown, used or expired" in agent.readiness().text


async def test_x509pop_attests_again_after_an_eviction(directory: Path) -> None:
    clock = ManualClock()
    node_ca = make_authority("nodes.test", clock)
    roots = directory / "nodes.pem"
    roots.write_bytes(node_ca.bundle.to_pem())
    key = ec.generate_private_key(ec.SECP256R1())
    proof = NodeCertificate(node_ca.issue(SpiffeId(TrustDomain("nodes.test"), "/node-1"), key.public_key()), key)
    config = config_for(directory, x509pop=X509PopConfig((roots,)))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(started(config, clock))
        serving = agent_of(address(server), await server.admin.bundle(), proof, directory, clock)
        agent = await stack.enter_async_context(serving)
        await agent.ready()
        [record] = [one async for one in server.admin.agents()]
        assert record.type == "x509pop"
        await server.admin.create_entries([entry("/web", record.spiffe_id, SELF)])
        before = (await until(agent, WEB)).svid
        await server.admin.evict_agent(record.spiffe_id)
        await eventually(lambda: _denied(agent))
        assert (await _served_again(agent, clock)).spiffe_id == before.spiffe_id


async def _served_again(agent: Agent, clock: ManualClock) -> X509Svid:
    async def served() -> bool:
        return not await _denied(agent)

    await eventually(served, clock)
    return (await until(agent, WEB)).svid


async def _denied(agent: Agent) -> bool:
    try:
        await ids(agent)
    except WorkloadApiError:
        return True
    return False


async def test_a_server_that_the_bundle_does_not_vouch_for_is_not_trusted(directory: Path) -> None:
    clock = ManualClock()
    async with started(config_for(directory), clock) as server:
        token, parent = await token_and_parent(server)
        await server.admin.create_entries([entry("/web", parent, SELF)])
        impostor = make_authority(str(TD), clock).bundle
        async with agent_of(address(server), impostor, token, directory, clock) as agent:
            await eventually(lambda: agent.identities.upstream.trouble is not None)
            assert "no path to a root of the bundle of trust domain example.org" in agent.readiness().text
        # The token was not sent to that server: it is still valid.
        async with agent_of(address(server), await server.admin.bundle(), token, directory, clock) as agent:
            await agent.ready()


def test_a_kept_svid_of_another_trust_domain_is_refused(directory: Path) -> None:
    authority = make_authority("other.org")
    key = ec.generate_private_key(ec.SECP256R1())
    chain = authority.issue(agent_id(TrustDomain("other.org"), "join_token", "x"), key.public_key())
    with opened_store(directory / "data") as store:
        identity = NodeIdentity(authority.bundle, store, ManualClock())
        identity.adopt(chain, key)
        assert NodeIdentity(authority.bundle, store, ManualClock()).valid
        with pytest.raises(ConfigError) as raised:
            NodeIdentity(make_authority(str(TD)).bundle, store, ManualClock())
    assert str(raised.value) == (
        f"{directory}/data/agent-svid.pem: wanted an agent of trust domain example.org, got"
        " spiffe://other.org/meshtls/agent/join_token/x; give another data directory"
    )


async def test_an_svid_that_cannot_be_stored_is_served(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = make_authority(str(TD))
    key = ec.generate_private_key(ec.SECP256R1())
    chain = authority.issue(agent_id(TD, "join_token", "x"), key.public_key())
    data = directory / "data"
    with opened_store(data) as store:
        os.rmdir(data)
        identity = NodeIdentity(authority.bundle, store, ManualClock())
        identity.adopt(chain, key)
        assert identity.snapshot().svid.spiffe_id == agent_id(TD, "join_token", "x")
    assert "the agent's SVID could not be saved: " in caplog.text
    assert "BEGIN" not in caplog.text
