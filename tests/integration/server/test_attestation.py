"""Node attestation: how a node becomes an agent, and which nodes are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL

from meshtls.errors import AccessError, LocalIdentityError, MeshtlsError, RequestError
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import Selector, agent_id, server_id
from meshtls.server.settings import X509PopConfig
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import attest_channel, our_errors
from meshtls.serverapi.node import AttestationClient, NodeClient
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import X509Svid
from tests.support import certs
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.server import TD, Agent, ServerUnderTest, config_for, entry, new_csr, started

USED = "join token: it is unknown, used or expired; make a new one with `meshtls token generate`"


async def test_a_join_token_makes_an_agent(server: ServerUnderTest) -> None:
    token = await server.admin.create_join_token()
    key = ec.generate_private_key(ec.SECP256R1())
    attested = await (await server.attestation()).with_token(token.token, new_csr(key))
    agent = server.agent(attested, key)
    assert agent.spiffe_id == token.agent_id
    record = await server.admin.agent(agent.spiffe_id)
    assert (record.type, record.serials, record.banned) == ("join_token", (agent.svid.serial,), False)
    assert [one async for one in server.admin.agents()] == [record]
    assert await agent.client.bundle() == await server.admin.bundle() == attested.bundle


async def test_a_join_token_is_good_once(server: ServerUnderTest) -> None:
    token = (await server.admin.create_join_token()).token
    client = await server.attestation()
    await client.with_token(token, new_csr())
    with pytest.raises(AccessError) as refused:
        await client.with_token(token, new_csr())
    assert str(refused.value) == USED


async def test_exactly_one_of_many_concurrent_uses_of_a_token_succeeds(server: ServerUnderTest) -> None:
    token = (await server.admin.create_join_token()).token
    clients = [await server.attestation() for _ in range(6)]
    tries = await asyncio.gather(*(one.with_token(token, new_csr()) for one in clients), return_exceptions=True)
    assert sorted(type(one).__name__ for one in tries) == ["AccessError"] * 5 + ["Attested"]
    assert len([one async for one in server.admin.agents()]) == 1


async def test_a_request_that_cannot_be_signed_does_not_use_the_token_up(server: ServerUnderTest) -> None:
    token = (await server.admin.create_join_token()).token
    client = await server.attestation()
    with pytest.raises(RequestError, match="CSR: wanted a PKCS#10 request in PEM or DER"):
        await client.with_token(token, b"no request")
    assert (await client.with_token(token, new_csr())).chain


async def test_a_token_that_was_never_made_is_refused(server: ServerUnderTest) -> None:
    with pytest.raises(AccessError) as refused:
        await (await server.attestation()).with_token("guessed", new_csr())
    assert str(refused.value) == USED


async def test_a_join_token_expires(tmp_path: Path, store_url: URL) -> None:
    clock = ManualClock()
    async with started(config_for(tmp_path, store_url), clock) as server:
        early, late = [await server.admin.create_join_token(timedelta(seconds=60)) for _ in range(2)]
        client = await server.attestation()
        clock.advance(59)
        assert (await client.with_token(early.token, new_csr())).chain
        clock.advance(2)
        with pytest.raises(AccessError) as refused:
            await client.with_token(late.token, new_csr())
        assert str(refused.value) == USED


async def test_a_token_may_give_its_node_a_name_below_which_entries_hang(server: ServerUnderTest) -> None:
    name = SpiffeId(TD, "/laptop")
    token = await server.admin.create_join_token(spiffe_id=name)
    key = ec.generate_private_key(ec.SECP256R1())
    agent = server.agent(await (await server.attestation()).with_token(token.token, new_csr(key)), key)
    [made] = await server.admin.create_entries([entry("/web", name)])
    [chain] = await agent.client.sign_x509([(made.id, new_csr())])
    assert not isinstance(chain, MeshtlsError)


async def test_the_names_requested_by_a_csr_are_ignored(server: ServerUnderTest) -> None:
    token = await server.admin.create_join_token()
    wish = new_csr(uri=str(server_id(TD)))
    attested = await (await server.attestation()).with_token(token.token, wish)
    assert str(token.agent_id) in str(attested.chain[0].extensions)
    assert str(server_id(TD)) not in str(attested.chain[0].extensions)


async def test_a_server_of_another_ca_is_not_given_the_token(server: ServerUnderTest) -> None:
    foreign = make_authority().bundle
    channel = server.keep(attest_channel(*server.running.attest_address, foreign))
    with pytest.raises(
        LocalIdentityError, match="server authentication failed: peer spiffe://example.org/meshtls/server: no path"
    ):
        await AttestationClient(channel).with_token("secret", new_csr())


async def test_the_attestation_port_serves_nothing_but_attestation(server: ServerUnderTest) -> None:
    channel = server.keep(attest_channel(*server.running.attest_address, await server.admin.bundle()))
    assert await AttestationClient(channel).bundle() == await server.admin.bundle()
    with pytest.raises(LocalIdentityError, match="content-type"):  # how grpclib says that there is no such method
        await NodeClient(channel).renew(new_csr())


async def test_the_mutual_tls_port_refuses_a_client_without_a_certificate(server: ServerUnderTest) -> None:
    anonymous = server.keep(attest_channel(*server.running.address, await server.admin.bundle()))
    with pytest.raises(LocalIdentityError):
        await AttestationClient(anonymous).bundle()


STARTS, ENDS = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=2)
ROOT = certs.ca(slot="node root", not_before=STARTS, not_after=ENDS)


def node(issuer: certs.Issued = ROOT, slot: str = "node", name: str = "node-1") -> certs.Issued:
    return certs.leaf(issuer, subject=name, own_key=certs.key(slot), not_before=STARTS, not_after=ENDS)


NODE = node()


@pytest.fixture
async def pop_server(tmp_path: Path, store_url: URL) -> AsyncIterator[ServerUnderTest]:
    """A server that accepts nodes with a certificate of ROOT, and no join tokens."""
    bundle = tmp_path / "nodes.pem"
    bundle.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    async with started(config_for(tmp_path, store_url, x509pop=X509PopConfig((bundle,)), join_token=False)) as running:
        yield running


async def attest_by(server: ServerUnderTest, holder: certs.Issued, key: certs.Key | None = None) -> Agent:
    client, own = await server.attestation(), ec.generate_private_key(ec.SECP256R1())
    return server.agent(
        await client.with_certificate((holder.certificate,), key or holder.private_key, TD, new_csr(own)), own
    )


async def test_a_node_that_proves_its_certificates_key_becomes_an_agent(pop_server: ServerUnderTest) -> None:
    agent = await attest_by(pop_server, NODE)
    fingerprint = NODE.certificate.fingerprint(hashes.SHA256()).hex()
    assert agent.spiffe_id == agent_id(TD, "x509pop", fingerprint)
    record = await pop_server.admin.agent(agent.spiffe_id)
    root = ROOT.certificate.fingerprint(hashes.SHA256()).hex()
    assert set(record.selectors) == {
        Selector("x509pop", "subject:cn:node-1"),
        Selector("x509pop", f"ca:fingerprint:{root}"),
    }


async def test_a_certificate_that_is_only_presented_gives_no_selector(pop_server: ServerUnderTest) -> None:
    client, own = await pop_server.attestation(), ec.generate_private_key(ec.SECP256R1())
    stranger = certs.ca(slot="stranger", not_before=STARTS, not_after=ENDS).certificate
    chain = (NODE.certificate, stranger)
    agent = pop_server.agent(await client.with_certificate(chain, NODE.private_key, TD, new_csr(own)), own)
    record = await pop_server.admin.agent(agent.spiffe_id)
    assert stranger.fingerprint(hashes.SHA256()).hex() not in str(record.selectors)


@pytest.mark.parametrize(
    ("holder", "key", "message"),
    [
        (node(certs.ca(slot="foreign", not_before=STARTS, not_after=ENDS)), None, "x509pop: no path from the node's"),
        (NODE, certs.key("another"), "x509pop: the answer was not signed with the key of the node's certificate"),
    ],
    ids=["foreign CA", "another key"],
)
async def test_a_node_that_proves_nothing_is_refused(
    holder: certs.Issued, key: certs.Key | None, message: str, pop_server: ServerUnderTest
) -> None:
    with pytest.raises(AccessError, match=message):
        await attest_by(pop_server, holder, key)
    await attest_by(pop_server, NODE)


async def test_an_entry_below_an_alias_is_for_the_nodes_that_its_selectors_match(pop_server: ServerUnderTest) -> None:
    cluster = SpiffeId(TD, "/cluster")
    alias = entry("/cluster", server_id(TD), "x509pop:subject:cn:node-1")
    _, web = await pop_server.admin.create_entries([alias, entry("/web", cluster)])
    inside = await attest_by(pop_server, NODE)
    outside = await attest_by(pop_server, node(slot="other", name="node-2"))
    [chain] = await inside.client.sign_x509([(web.id, new_csr())])
    assert not isinstance(chain, MeshtlsError)
    [refused] = await outside.client.sign_x509([(web.id, new_csr())])
    assert str(refused) == f"entry {web.id}: agent {outside.spiffe_id} may serve no entry with this id"


async def test_a_join_token_is_refused_where_it_is_not_configured(pop_server: ServerUnderTest) -> None:
    with pytest.raises(RequestError, match="^join_token: this node attestor is not configured here$"):
        await pop_server.admin.create_join_token()
    with pytest.raises(AccessError, match="^join_token: this node attestor is not configured here$"):
        await (await pop_server.attestation()).with_token("any", new_csr())


async def test_x509pop_that_is_not_configured_is_refused(server: ServerUnderTest) -> None:
    with pytest.raises(AccessError, match="^x509pop: this node attestor is not configured here$"):
        await attest_by(server, NODE)


async def test_a_first_message_without_proof_is_refused(server: ServerUnderTest) -> None:
    channel = server.keep(attest_channel(*server.running.attest_address, await server.admin.bundle()))
    with pytest.raises(RequestError, match="wanted a join token or a certificate in the first message"), our_errors():
        await server_grpc.AttestationStub(channel).AttestAgent([server_pb.AttestRequest(csr=new_csr())])


async def test_a_banned_agent_is_refused_at_once_and_an_evicted_one_may_attest_again(
    pop_server: ServerUnderTest,
) -> None:
    agent = await attest_by(pop_server, NODE)
    await agent.client.bundle()
    await pop_server.admin.ban_agent(agent.spiffe_id)
    with pytest.raises(AccessError, match=f"^agent {agent.spiffe_id} is banned$"):
        await agent.client.bundle()
    with pytest.raises(AccessError, match="is banned; evict it before it may attest again"):
        await attest_by(pop_server, NODE)
    assert [one.spiffe_id async for one in pop_server.admin.agents(only_banned=True)] == [agent.spiffe_id]
    await pop_server.admin.evict_agent(agent.spiffe_id)
    with pytest.raises(AccessError, match="is not attested, or was evicted: attest again"):
        await agent.client.bundle()
    await (await attest_by(pop_server, NODE)).client.bundle()
    with pytest.raises(AccessError, match=f"certificate {agent.svid.serial} is not its present one; attest again"):
        await agent.client.bundle()


async def test_both_agent_certificates_are_accepted_after_a_renewal_until_the_new_one_is_used(
    server: ServerUnderTest,
) -> None:
    agent = await server.new_agent()
    key = ec.generate_private_key(ec.SECP256R1())
    next_svid = X509Svid.from_chain(await agent.client.renew(new_csr(key)), key)
    assert next_svid.spiffe_id == agent.spiffe_id
    await agent.client.bundle()
    await server.node_client(next_svid, agent.bundle).bundle()
    with pytest.raises(AccessError, match=f"certificate {agent.svid.serial} is not its present one; attest again"):
        await agent.client.bundle()


async def test_an_agent_whose_certificate_has_ended_is_refused_on_the_connection_it_has(
    tmp_path: Path, store_url: URL
) -> None:
    clock = ManualClock()
    async with started(config_for(tmp_path, store_url), clock) as server:
        agent = await server.new_agent()
        clock.advance(3590)
        await agent.client.bundle()
        clock.advance(20)
        with pytest.raises(
            LocalIdentityError, match=f"^{agent.spiffe_id}: your certificate {agent.svid.serial} expired"
        ):
            await agent.client.bundle()


async def test_a_workloads_svid_does_not_authenticate_an_agent(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    key = ec.generate_private_key(ec.SECP256R1())
    [chain] = await agent.client.sign_x509([(made.id, new_csr(key))])
    assert not isinstance(chain, MeshtlsError)
    with pytest.raises(LocalIdentityError):
        await server.node_client(X509Svid.from_chain(chain, key), agent.bundle).bundle()


async def test_an_agent_may_not_administer(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    with pytest.raises(AccessError, match=r"^/meshtls.server.v1.Entries/CountEntries is not for an agent"):
        await AdminClient(server.mutual(agent.svid, agent.bundle)).count_entries()
