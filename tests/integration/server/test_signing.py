"""The SVIDs of agents and administrators, and their records."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL, text

from meshtls.bundle import BundleSet
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.errors import InvalidSvidError, LocalIdentityError, MeshtlsError, NotFoundError, RequestError
from meshtls.server.store.database import Database
from meshtls.serverapi.node import Chain
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.verify import VerifiedPeer, verify_peer
from meshtls.svid.x509 import format_serial
from tests.support.clock import ManualClock
from tests.support.server import TD, ServerUnderTest, config_for, entry, new_csr, started

WEB = SpiffeId(TD, "/web")


async def verified(
    server: ServerUnderTest, chain: Chain | MeshtlsError, clock: ManualClock | None = None
) -> VerifiedPeer:
    assert not isinstance(chain, MeshtlsError), chain
    ders = [one.public_bytes(Encoding.DER) for one in chain]
    return verify_peer(ders, BundleSet([await server.admin.bundle()]), (clock or ManualClock()).now())


def dns_names(leaf: x509.Certificate) -> list[str]:
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


async def test_an_agent_gets_what_the_entry_says_whatever_the_csr_asks_for(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    wanted = entry("/web", agent.spiffe_id, x509_svid_ttl=120, dns_names=("web.local",))
    [made] = await server.admin.create_entries([wanted])
    key = ec.generate_private_key(ec.SECP256R1())
    [chain] = await agent.client.sign_x509([(made.id, new_csr(key, uri="spiffe://example.org/admin"))])
    peer = await verified(server, chain)
    assert peer.spiffe_id == WEB
    assert peer.leaf.public_key() == key.public_key()
    assert dns_names(peer.leaf) == ["web.local"]
    assert peer.not_after - peer.leaf.not_valid_before_utc == timedelta(seconds=130)


async def test_a_batch_is_answered_in_order_each_for_itself(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    made = await server.admin.create_entries(entry(f"/w{n}", agent.spiffe_id) for n in range(40))
    asked = [(one.id, new_csr()) for one in made]
    asked[7] = (made[7].id, b"no request")
    chains = await agent.client.sign_x509(asked)
    assert isinstance(chains[7], RequestError)
    served = [await verified(server, chain) for place, chain in enumerate(chains) if place != 7]
    assert [peer.spiffe_id.path for peer in served] == [f"/w{n}" for n in range(40) if n != 7]
    assert await agent.client.sign_x509([]) == []


async def test_an_agent_gets_no_svid_of_another_agents_entry(server: ServerUnderTest) -> None:
    mine, other = await server.new_agent(), await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", other.spiffe_id)])
    [refused] = await mine.client.sign_x509([(made.id, new_csr())])
    assert isinstance(refused, NotFoundError)
    assert str(refused) == f"entry {made.id}: agent {mine.spiffe_id} may serve no entry with this id"
    with pytest.raises(NotFoundError, match="may serve no entry with this id"):
        await mine.client.sign_jwt(made.id, ["db"])
    [chain] = await other.client.sign_x509([(made.id, new_csr())])
    assert (await verified(server, chain)).spiffe_id == WEB
    assert [one.spiffe_id async for one in server.admin.issuances(spiffe_id=WEB)] == [WEB]


async def test_a_deleted_entry_is_not_signed(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    await verified(server, (await agent.client.sign_x509([(made.id, new_csr())]))[0])
    await server.admin.delete_entries([made.id])
    [refused] = await agent.client.sign_x509([(made.id, new_csr())])
    assert isinstance(refused, NotFoundError)


async def test_each_issued_svid_is_recorded_with_agent_entry_and_times(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    [chain] = await agent.client.sign_x509([(made.id, new_csr())])
    peer = await verified(server, chain)
    await agent.client.sign_jwt(made.id, ["db"])
    x509_record, jwt_record = [one async for one in server.admin.issuances(spiffe_id=WEB, page_size=1)]
    assert (x509_record.kind, x509_record.serial) == ("x509", peer.serial)
    assert (x509_record.agent_id, x509_record.entry_id) == (agent.spiffe_id, made.id)
    assert (x509_record.not_before, x509_record.not_after) == (peer.leaf.not_valid_before_utc, peer.not_after)
    assert (jwt_record.kind, jwt_record.server_id) == ("jwt", server.running.server_id)
    assert jwt_record.not_after - jwt_record.issued_at == timedelta(minutes=5)
    assert [one async for one in server.admin.issuances(serial=peer.serial)] == [x509_record]


async def test_a_jwt_svid_is_valid_by_the_bundle_and_for_its_audience_only(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id, jwt_svid_ttl=60)])
    token = await agent.client.sign_jwt(made.id, ["db", "cache"])
    bundles, now = BundleSet([await server.admin.bundle()]), ManualClock().now()
    svid = parse_and_validate(token, bundles, "cache", now)
    assert (svid.spiffe_id, svid.audience) == (WEB, ("db", "cache"))
    assert set(svid.claims) == {"sub", "aud", "exp", "iat"}
    assert svid.claims["exp"] - svid.claims["iat"] == 60
    with pytest.raises(InvalidSvidError, match="not for 'web'"):
        parse_and_validate(token, bundles, "web", now)
    with pytest.raises(RequestError, match="wanted one or more audiences"):
        await agent.client.sign_jwt(made.id, [])


@pytest.mark.parametrize(
    ("kind", "algorithm"), [(KeyAlgorithm.P256, "ES256"), (KeyAlgorithm.P384, "ES384"), (KeyAlgorithm.RSA2048, "RS256")]
)
async def test_the_jwt_key_type_decides_the_signature_algorithm(
    kind: KeyAlgorithm, algorithm: str, tmp_path: Path
) -> None:
    async with started(config_for(tmp_path, jwt_key_type=kind)) as server:
        tokens = {await server.admin.mint_jwt(WEB, ["db"]) for _ in range(2)}
        bundle = await server.admin.bundle()
    token = tokens.pop()
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header == {"alg": algorithm, "typ": "JWT", "kid": next(iter(bundle.jwt_authorities))}
    assert parse_and_validate(token, BundleSet([bundle]), "db", ManualClock().now()).spiffe_id == WEB


async def test_an_administrator_mints_any_workloads_svid_and_no_servers_or_agents(server: ServerUnderTest) -> None:
    chain = await server.admin.mint_x509(WEB, new_csr(), timedelta(seconds=50), ["web.local"])
    peer = await verified(server, chain)
    assert (peer.spiffe_id, dns_names(peer.leaf)) == (WEB, ["web.local"])
    assert peer.not_after - peer.leaf.not_valid_before_utc == timedelta(seconds=60)
    for path in ("/meshtls/server", "/meshtls/agent/join_token/x"):
        with pytest.raises(RequestError, match="those below /meshtls/ are servers and agents"):
            await server.admin.mint_x509(SpiffeId(TD, path), new_csr())
        with pytest.raises(RequestError, match="those below /meshtls/ are servers and agents"):
            await server.admin.mint_jwt(SpiffeId(TD, path), ["db"])
    with pytest.raises(RequestError, match="issues for trust domain example.org only"):
        await server.admin.mint_jwt(SpiffeId.parse("spiffe://b.test/web"), ["db"])
    with pytest.raises(RequestError, match=r"^TTL of -5 s: wanted 0 \(the default\)"):
        await server.admin.mint_x509(WEB, new_csr(), timedelta(seconds=-5))


async def test_an_expired_entry_is_not_signed_and_is_deleted(tmp_path: Path, store_url: URL) -> None:
    clock = ManualClock()
    async with started(config_for(tmp_path, store_url), clock) as server:
        agent = await server.new_agent()
        ends = clock.now() + timedelta(seconds=10)
        [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id, expires_at=ends)])
        clock.advance(9)
        await verified(server, (await agent.client.sign_x509([(made.id, new_csr())]))[0], clock)
        updates = agent.client.sync()
        assert [one.id for one in (await anext(updates)).entries] == [made.id]
        clock.advance(2)
        [refused] = await agent.client.sign_x509([(made.id, new_csr())])
        assert isinstance(refused, NotFoundError)
        gone = await anext(updates)
        assert made.id in gone.removed
        assert await server.admin.count_entries() == 0
        await updates.aclose()


async def test_an_svid_that_cannot_be_recorded_is_not_returned(server: ServerUnderTest, store_url: URL) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    token = await server.admin.create_join_token()
    database = Database(store_url)
    async with database.write() as tx:
        await tx.execute(text("ALTER TABLE issuances RENAME TO hidden"))
    for call in (
        lambda: agent.client.sign_x509([(made.id, new_csr())]),
        lambda: agent.client.sign_jwt(made.id, ["db"]),
        lambda: agent.client.renew(new_csr()),
        lambda: server.admin.mint_x509(WEB, new_csr()),
    ):
        with pytest.raises(LocalIdentityError, match=r"^data store .*issuances"):
            await call()
    attestation = await server.attestation()
    with pytest.raises(LocalIdentityError, match=r"^data store .*issuances"):
        await attestation.with_token(token.token, new_csr())
    async with database.write() as tx:
        await tx.execute(text("ALTER TABLE hidden RENAME TO issuances"))
    await database.close()
    assert [one async for one in server.admin.issuances(spiffe_id=WEB)] == []
    assert (await server.admin.agent(agent.spiffe_id)).serials == (agent.svid.serial,)
    assert (await attestation.with_token(token.token, new_csr())).chain, "the failed try did not use the token up"
    chain = await server.admin.mint_x509(WEB, new_csr())
    assert [one.serial async for one in server.admin.issuances(spiffe_id=WEB)] == [format_serial(chain[0])]
