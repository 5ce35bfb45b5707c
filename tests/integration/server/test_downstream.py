"""What a server lets one below it do, and what it refuses: the CA, the bundle, keys of JWT-SVIDs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import URL

from meshtls.address import Address
from meshtls.bundle import BundleSet
from meshtls.ca.authority_states import AuthorityState
from meshtls.ca.profile import BACKDATE, Signer, leaf_certificate
from meshtls.clock import SystemClock
from meshtls.errors import (
    AccessError,
    ConflictError,
    MeshtlsError,
    NotFoundError,
    RequestError,
    RevokedError,
)
from meshtls.registration import AgentRecord, Entry, server_id
from meshtls.revocation.building import crl_issuer
from meshtls.revocation.lists import revocations_of
from meshtls.rpc.shedding import Refusals
from meshtls.server.access import Caller, ListenerKind, Role
from meshtls.server.core import Core
from meshtls.server.operations import downstream, entries
from meshtls.server.operations.agents import create_join_token, evict_agent
from meshtls.server.operations.attestation import Attestation
from meshtls.server.operations.authorities import list_authorities
from meshtls.server.operations.revocations import readmit, revoke
from meshtls.server.operations.svids import sign_x509
from meshtls.server.revocation_publishing import serving_revocations
from meshtls.server.signing import Signed
from meshtls.server.startup import opened_core
from meshtls.server.store import agents, audit, authorities, bundles, issuances
from meshtls.server.store.bundles import jwt_authority
from meshtls.serverapi.values import Revoked, Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer, verify_peer
from meshtls.svid.x509 import fingerprint_of, format_serial, key_id_of
from tests.support.authority import csr_for
from tests.support.clock import ManualClock
from tests.support.server import TD, config_for, entry, new_csr
from tests.support.waiting import SECONDS

ADMIN = Caller(Role.ADMIN, "uid 0")
BELOW = SpiffeId(TD, "/below")
WEB = SpiffeId(TD, "/web")
DAY = 86400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def core(tmp_path: Path, store_url: URL, clock: ManualClock) -> AsyncIterator[Core]:
    async with core_of(tmp_path, store_url, clock) as opened:
        yield opened


@asynccontextmanager
async def core_of(directory: Path, store_url: URL, clock: ManualClock) -> AsyncIterator[Core]:
    async with opened_core(config_for(directory, store_url), clock) as (opened, _):
        yield opened


def peer(core: Core, name: SpiffeId) -> VerifiedPeer:
    key = ec.generate_private_key(ec.SECP256R1())
    return VerifiedPeer(name, core.signing.x509(name, key.public_key(), timedelta(hours=1)).chain)


async def caller(core: Core, name: SpiffeId = BELOW, wanted: Role = Role.DOWNSTREAM) -> Caller:
    # What a server does when its authority is another one: its intermediate is on record then.
    own = core.signing.x509(server_id(TD), ec.generate_private_key(ec.SECP256R1()).public_key(), timedelta(hours=1))
    await core.ledger.commit(core.trail.record(None, "renew own SVID", server_id(TD)), [own])
    return await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer(core, name), wanted=wanted)


async def register(core: Core, path: str = "/below", **more: bool) -> str:
    [made] = await entries.create_entries(core, ADMIN, [entry(path, server_id(TD), **(more or {"downstream": True}))])
    assert not isinstance(made, MeshtlsError)
    return made.id


def der(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None) -> bytes:
    public = (key or ec.generate_private_key(ec.SECP256R1())).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    return csr_for(key, None).public_bytes(Encoding.DER)


async def test_a_downstream_ca_signs_svids_that_the_bundle_verifies_and_ends_in_time(
    core: Core, clock: ManualClock
) -> None:
    await register(core)
    key = ec.generate_private_key(ec.SECP256R1())
    made = await downstream.new_downstream_ca(core, await caller(core), csr(key), 600)
    [ca] = made.chain
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(seconds=600) + BACKDATE
    leaf = leaf_certificate(WEB, key.public_key(), (), Signer(ca, key), clock.now(), timedelta(minutes=1))
    chain = [one.public_bytes(Encoding.DER) for one in (leaf, ca)]
    assert verify_peer(chain, BundleSet([core.hub.bundle]), clock.now()).spiffe_id == WEB
    longest = await downstream.new_downstream_ca(core, await caller(core), csr(key), 10 * 365 * 86400)
    assert longest.chain[0].not_valid_after_utc - clock.now() == core.config.ca_ttl


async def test_only_an_entry_marked_downstream_makes_a_downstream_server(core: Core) -> None:
    await register(core, "/web", admin=True)
    assert (await caller(core, WEB)).role is Role.ADMIN
    with pytest.raises(AccessError, match="permission denied: new downstream ca is not for an administrator"):
        await downstream.new_downstream_ca(core, await caller(core, WEB), b"")
    with pytest.raises(AccessError, match="wanted an agent, or an identity whose entry is marked admin or downstream"):
        await caller(core)
    made = await register(core)
    accepted = await caller(core)
    assert accepted.role is Role.DOWNSTREAM
    await entries.delete_entries(core, ADMIN, [made])
    with pytest.raises(AccessError, match="has no entry marked downstream"):
        await downstream.new_downstream_ca(core, accepted, b"")


async def test_an_identity_that_is_both_is_what_the_call_needs(core: Core) -> None:
    await register(core, admin=True, downstream=True)
    assert (await caller(core, wanted=Role.ADMIN)).role is Role.ADMIN
    assert (await caller(core, wanted=Role.DOWNSTREAM)).role is Role.DOWNSTREAM


async def test_a_downstream_ca_makes_neither_administrators_nor_agents_nor_downstream_servers_here(
    core: Core, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(core)
    await register(core, "/admin", admin=True)
    node = SpiffeId(TD, "/meshtls/agent/join_token/1")
    certificate = core.signing.x509(node, ec.generate_private_key(ec.SECP256R1()).public_key(), timedelta(hours=1))
    serial, ends = certificate.record.serial, certificate.record.not_after
    attested = AgentRecord(
        spiffe_id=node, type="join_token", serials=(serial,), not_after=ends, attested_at=clock.now()
    )
    async with core.database.write() as tx:
        await agents.put_agent(tx, attested)
    key = ec.generate_private_key(ec.SECP256R1())
    [below] = (await downstream.new_downstream_ca(core, await caller(core), csr(key))).chain
    # An agent's serial is in the log for all to read, and a CA chooses those of its certificates.
    monkeypatch.setattr("meshtls.ca.profile.new_serial", lambda: int(serial, 16))
    for name, own in (
        (node, VerifiedPeer(node, certificate.chain)),
        *((one, peer(core, one)) for one in (SpiffeId(TD, "/admin"), BELOW)),
    ):
        leaf = leaf_certificate(name, key.public_key(), (), Signer(below, key), clock.now(), timedelta(hours=1))
        chain = [one.public_bytes(Encoding.DER) for one in (leaf, below)]
        forged = verify_peer(chain, BundleSet([core.hub.bundle]), clock.now())
        with pytest.raises(AccessError, match=f"^{name}: wanted a certificate that a server of this data store has"):
            await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, forged)
        assert (await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, own)).name == str(name)


async def test_a_csr_by_another_key_gets_no_ca(core: Core) -> None:
    await register(core)
    with pytest.raises(RequestError, match="CSR: wanted a PKCS#10 request"):
        await downstream.new_downstream_ca(core, await caller(core), b"x")


async def new_ca_below(core: Core, entry_id: str, agent: str | None, below: str = "") -> None:
    """Sign the CA of a server whose identity is from this agent or, for None, was minted. ``below`` is its ID."""
    key = ec.generate_private_key(ec.SECP256R1())
    node = SpiffeId(TD, f"/meshtls/agent/join_token/{agent}") if agent else None
    signed = core.signing.x509(BELOW, key.public_key(), timedelta(minutes=1), agent_id=node, entry_id=entry_id)
    await core.ledger.commit(core.trail.record(None, "sign X509-SVIDs"), [signed])
    peer = VerifiedPeer(BELOW, signed.chain)
    accepted = await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer, wanted=Role.DOWNSTREAM)
    await downstream.new_downstream_ca(core, accepted, csr(key), below=below)


ONE, OTHER = "5f0dd3a4-0b7e-4c39-9d8c-0e0a2a4f8d11", "c5a1d1de-77b0-4f3b-8a35-6f6b7f3b2c22"


@pytest.mark.parametrize(
    "servers",
    [
        [("n1", ""), ("n1", "")],
        [("n1", ONE), ("n1", ONE)],
        [("n1", ""), ("n2", "")],
        [("n1", ONE), ("n1", OTHER)],
        [("n1", ""), ("n1", ONE)],
    ],
    ids=[
        "a server",
        "a server with an ID",
        "two with one entry",
        "two with one entry and agent",
        "SPIRE's beside ours",
    ],
)
async def test_an_old_root_is_not_revoked_while_the_newest_ca_of_a_downstream_server_hangs_on_it(
    core: Core, clock: ManualClock, servers: list[tuple[str, str]]
) -> None:
    made = await register(core)
    for agent, below in servers:
        await new_ca_below(core, made, agent, below)
    old = core.signing.authority.id
    await core.authorities.prepare("x509")
    await core.authorities.activate("x509")
    await core.authorities.taint("x509", old)
    clock.advance(7200)  # the leaves end, the CAs do not
    present = sorted(set(servers), reverse=True)
    for at, (agent, below) in enumerate(present):
        left = len(present) - at
        found = next(one for one in await list_authorities(core, ADMIN) if one.id == old)
        assert sum(one.count for one in found.holders) == sum(one.cas for one in found.holders) == left
        with pytest.raises(RequestError, match="in use hangs? on it, of spiffe://example.org/meshtls/agent/"):
            await core.authorities.revoke("x509", old)
        await new_ca_below(core, made, agent, below)
    await core.authorities.revoke("x509", old)
    assert list(map(key_id_of, core.hub.bundle.x509_authorities)) == [core.signing.authority.id]


async def test_each_ca_of_a_server_with_a_minted_identity_counts_until_it_ends(core: Core, clock: ManualClock) -> None:
    made = await register(core)
    await new_ca_below(core, made, None)
    old = core.signing.authority.id
    await core.authorities.prepare("x509")
    await core.authorities.activate("x509")
    await new_ca_below(core, made, None)
    clock.advance(7200)
    with pytest.raises(RequestError, match="1 SVID in use hangs on it, of no agent"):
        await core.authorities.revoke("x509", old)
    clock.advance(core.config.ca_ttl.total_seconds())
    await core.authorities.revoke("x509", old)


async def test_a_taint_is_in_the_bundle_for_downstream_servers_and_so_is_what_signs_their_cas(core: Core) -> None:
    await register(core)
    first = core.signing.authority
    assert (await downstream.downstream_bundle(core, await caller(core))).issuer == key_id_of(first.root)
    second = await core.authorities.prepare("x509")
    await core.authorities.activate("x509")
    found = await downstream.downstream_bundle(core, await caller(core))
    assert (found.issuer, found.tainted) == (second.id, frozenset())
    await core.authorities.taint("x509", first.id)
    tainted = (await downstream.downstream_bundle(core, await caller(core))).tainted
    assert len(tainted) == 1


async def test_a_jwt_key_of_a_downstream_server_is_published_once_until_its_end_or_its_revocation(
    core: Core, clock: ManualClock
) -> None:
    await register(core)
    key, ends = der(), int(clock.now().timestamp()) + 3600
    for _ in range(2):
        found = await downstream.publish_jwt_authority(core, await caller(core), "k1", key, ends)
        assert found.ends["k1"].timestamp() == ends
    assert "k1" in core.hub.bundle.jwt_authorities
    with pytest.raises(ConflictError, match="JWT key k1: another key is published by this ID"):
        await downstream.publish_jwt_authority(core, await caller(core), "k1", der(), ends)
    with pytest.raises(ConflictError, match="another key is published by this ID"):
        await downstream.publish_jwt_authority(core, await caller(core), core.signing.jwt_key.kid, der(), ends)
    with pytest.raises(RequestError, match="can't revoke it while it is ACTIVE"):
        await core.authorities.revoke("jwt", "k1")
    await core.authorities.taint("jwt", "k1")
    assert "k1" in (await downstream.downstream_bundle(core, await caller(core))).tainted
    await core.authorities.revoke("jwt", "k1", force=True)
    assert "k1" not in core.hub.bundle.jwt_authorities
    with pytest.raises(ConflictError, match="JWT key k1: it is REVOKED; prepare and publish a new one"):
        await downstream.publish_jwt_authority(core, await caller(core), "k1", key, ends)
    await downstream.publish_jwt_authority(core, await caller(core), "k2", der(), ends)
    clock.advance(3601)
    async with core.database.write() as tx:
        await authorities.expire_ended(tx, TD, clock.now())
        states = {one.id: one.state for one in await authorities.list_authorities(tx)}
    assert states["k2"] is AuthorityState.EXPIRED


@dataclass
class Below:
    """A server below this one, whose SVID came from an agent: its entry, its CA, and that CA's key."""

    core: Core
    agent_id: SpiffeId
    caller: Caller
    entry: Entry
    key: ec.EllipticCurvePrivateKey
    ca: x509.Certificate

    @property
    def serial(self) -> str:
        return format_serial(self.ca)

    def peer(self, name: SpiffeId = WEB) -> VerifiedPeer:
        """A peer with this ID and an SVID that the server below has signed now. Raises PeerError as a workload does."""
        now = self.core.clock.now()
        leaf = leaf_certificate(name, self.key.public_key(), (), Signer(self.ca, self.key), now, timedelta(minutes=1))
        trust = Trust(1, BundleSet([self.core.hub.bundle]), revocations_of(self.core.hub.crls))
        return verify_peer([one.public_bytes(Encoding.DER) for one in (leaf, self.ca)], trust, now)

    def accepted(self) -> bool:
        try:
            self.peer()
        except RevokedError as error:
            return {f"peer {WEB}: certificate {self.serial} was revoked by its issuer": False}[str(error)]
        return True


async def below(core: Core, path: str = "/below", agent: Caller | None = None) -> Below:
    agent = agent or await attested(core)
    assert agent.agent is not None
    [made] = await entries.create_entries(core, ADMIN, [entry(path, agent.agent.spiffe_id, downstream=True)])
    assert isinstance(made, Entry)
    [signed] = await sign_x509(core, agent, [(made.id, new_csr())])
    assert isinstance(signed, Signed)
    its_peer = VerifiedPeer(made.spiffe_id, signed.chain)
    its = await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, its_peer, wanted=Role.DOWNSTREAM)
    key = ec.generate_private_key(ec.SECP256R1())
    [ca] = (await downstream.new_downstream_ca(core, its, csr(key))).chain
    return Below(core, agent.agent.spiffe_id, its, made, key, ca)


async def attested(core: Core) -> Caller:
    token = await create_join_token(core, ADMIN)
    made = await Attestation(core, Refusals()).by_token("127.0.0.1", token.token, new_csr())
    agent = VerifiedPeer(made.svid.record.spiffe_id, made.svid.chain)
    return await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, agent)


@pytest.mark.parametrize("way", ["serial", "spiffe-id", "entry", "agent"])
async def test_a_downstream_ca_that_is_revoked_is_refused_with_all_that_it_signs_and_another_one_is_not(
    core: Core, way: str
) -> None:
    mine, other = await below(core), await below(core, "/other")
    names = {
        "serial": mine.serial,
        "spiffe-id": str(BELOW),
        "entry": mine.entry.id,
        "agent": str(mine.agent_id),
    }
    assert mine.accepted()
    revoked = await revoke(core, ADMIN, Subject(SubjectKind(way), names[way]))
    leaves = {"serial": 0, "spiffe-id": 1, "entry": 1, "agent": 2}
    assert revoked == Revoked(leaves[way], 0, cas=1)
    assert not mine.accepted()
    assert other.accepted()
    if way == "serial":
        [again] = (await downstream.new_downstream_ca(core, mine.caller, csr(mine.key))).chain
        assert replace(mine, ca=again).accepted()
    elif way != "agent":  # whose SVIDs are revoked, so that it gets no call through
        with pytest.raises(AccessError, match="has no entry marked downstream"):
            await downstream.new_downstream_ca(core, mine.caller, csr(mine.key))


async def test_a_downstream_ca_on_hold_is_accepted_again_once_it_is_readmitted(core: Core) -> None:
    mine = await below(core)
    await revoke(core, ADMIN, Subject(SubjectKind.SERIAL, mine.serial), "certificate_hold")
    assert not mine.accepted()
    assert await readmit(core, ADMIN, Subject(SubjectKind.SERIAL, mine.serial)) == Revoked(0, 0, cas=1)
    assert mine.accepted()
    assert not core.hub.crls


async def test_a_downstream_ca_ends_with_its_entry_and_where_that_is_no_downstream_servers_any_more(
    core: Core,
) -> None:
    deleted, changed, kept = await below(core), await below(core, "/changed"), await below(core, "/kept")
    await entries.delete_entries(core, ADMIN, [deleted.entry.id])
    await entries.update_entries(core, ADMIN, [replace(changed.entry, downstream=False)])
    await entries.update_entries(core, ADMIN, [replace(kept.entry, hint="kept")])
    assert [one.accepted() for one in (deleted, changed, kept)] == [False, False, True]


async def test_openssl_reads_of_a_revoked_downstream_ca_in_the_crl_and_by_the_ocsp_of_its_root(
    tmp_path: Path, store_url: URL
) -> None:
    config = config_for(tmp_path / "server", store_url, revocation_listen=Address("127.0.0.1", 0))
    async with opened_core(config, SystemClock()) as (core, _), serving_revocations(core) as port:
        mine, other = await below(core), await below(core, "/other")
        root = core.signing.authority.root
        own = core.signing.authority.crl_signers[0].certificate
        for name, one in (("root", root), ("mine", mine.ca), ("other", other.ca), ("own", own)):
            (tmp_path / f"{name}.pem").write_bytes(one.public_bytes(Encoding.PEM))
        await revoke(core, ADMIN, Subject(SubjectKind.SERIAL, mine.serial), "superseded")
        crl_url = f"http://127.0.0.1:{port}/crl/{crl_issuer(root)}.crl"
        crl = await asyncio.to_thread(lambda: urlopen(crl_url, timeout=SECONDS).read())
        (tmp_path / "crl.pem").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))

        async def openssl(*words: str) -> str:
            process = await asyncio.create_subprocess_exec(
                "openssl", *words, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            return (await asyncio.wait_for(process.communicate(), SECONDS))[0].decode()

        verify = ("verify", "-crl_check", "-CAfile", "root.pem", "-CRLfile", "crl.pem")
        assert "certificate revoked" in await openssl(*verify, "mine.pem")
        assert await openssl(*verify, "other.pem") == "other.pem: OK\n"
        ocsp = ("ocsp", "-issuer", "root.pem", "-CAfile", "root.pem", "-url", f"http://127.0.0.1:{port}/ocsp", "-cert")
        assert "mine.pem: revoked" in await openssl(*ocsp, "mine.pem")
        assert "other.pem: good" in await openssl(*ocsp, "other.pem")
        assert "own.pem: good" in await openssl(*ocsp, "own.pem"), "the server's own intermediate"


async def test_the_newest_ca_of_a_downstream_server_is_what_hangs_on_a_root_when_its_agent_attests_anew(
    core: Core,
) -> None:
    mine = await below(core)
    old = core.signing.authority.id
    await core.authorities.prepare("x509")
    await core.authorities.activate("x509", force=True)
    await core.authorities.taint("x509", old)
    await evict_agent(core, ADMIN, mine.agent_id)
    async with core.database.read() as tx:
        [record] = [one for one in await authorities.list_authorities(tx) if one.id == old]
        held = await authorities.holders(tx, TD, record, core.clock.now())
    assert [(one.agent_id, one.count) for one in held if one.agent_id] == [(mine.agent_id, 1)]


async def test_an_authority_is_found_by_its_whole_id_though_a_key_of_a_downstream_server_continues_it(
    core: Core,
) -> None:
    await register(core)
    ours = core.signing.jwt_key.kid
    for kid in (ours + "x", "ab", "abc"):
        await downstream.publish_jwt_authority(core, await caller(core), kid, der(), 0)
    await core.authorities.prepare("jwt")
    await core.authorities.activate("jwt")
    assert (await core.authorities.taint("jwt", ours)).id == ours
    assert (await core.authorities.taint("jwt", "ab")).id == "ab"
    with pytest.raises(NotFoundError, match="JWT authority a: more than one authority has this id"):
        await core.authorities.taint("jwt", "a")
    async with core.database.read() as tx:
        states = {one.id: one.state for one in await authorities.list_authorities(tx)}
    active = AuthorityState.ACTIVE
    assert (states[ours + "x"], states["abc"]) == (active, active)


async def test_a_key_with_the_id_of_a_root_is_refused(core: Core) -> None:
    await register(core)
    root = core.signing.authority.id
    with pytest.raises(ConflictError) as refused:
        await downstream.publish_jwt_authority(core, await caller(core), root, der(), 0)
    assert str(refused.value) == f"JWT key {root}: an X.509 authority has this ID; give the key another one"
    await downstream.publish_jwt_authority(core, await caller(core), root + "x", der(), 0)


async def test_the_taint_of_a_key_with_the_id_of_a_root_is_not_that_of_the_root(core: Core, clock: ManualClock) -> None:
    await register(core)
    root = core.signing.authority.id
    async with core.change() as tx:  # it came from above, or was there before the root
        key = jwt_authority(root, ec.generate_private_key(ec.SECP256R1()).public_key(), clock.now() + timedelta(days=1))
        await bundles.publish(tx, TD, authorities.DOWNSTREAM, key, clock.now())
    await core.authorities.taint("jwt", root)
    assert list(core.hub.tainted) == []
    assert (await downstream.downstream_bundle(core, await caller(core))).tainted == {root}
    await core.authorities.prepare("x509")
    await core.authorities.activate("x509")
    await core.authorities.taint("x509", root)
    assert list(core.hub.tainted) == [root]
    tainted = (await downstream.downstream_bundle(core, await caller(core))).tainted
    assert tainted == {root, fingerprint_of(core.hub.bundle.x509_authorities[0])}


async def test_keys_that_can_not_be_published_are_refused_each_with_its_reason(
    core: Core, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(core)
    now = int(clock.now().timestamp())
    good = der()
    for kid, key, ends, message in (
        ("", good, 0, "JWT key ID: wanted 1 to 64 printable ASCII characters"),
        ("k" * 65, good, 0, "JWT key ID: wanted 1 to 64 printable ASCII characters"),
        ("a\nb", good, 0, "JWT key ID: wanted 1 to 64 printable ASCII characters"),
        ("k", b"x", 0, "wanted an EC or RSA public key in DER"),
        ("k", der(ed25519.Ed25519PrivateKey.generate()), 0, "public key: wanted EC P-256"),
        ("k", good, now - 1, "wanted an end between now and"),
        ("k", good, now + 20 * 366 * 86400, "wanted an end between now and"),
    ):
        with pytest.raises(RequestError, match=message):
            await downstream.publish_jwt_authority(core, await caller(core), kid, key, ends)
    monkeypatch.setattr(downstream, "_MOST_KEYS", 1)
    await downstream.publish_jwt_authority(core, await caller(core), "k", good, 0)
    with pytest.raises(RequestError, match="JWT keys of downstream servers: wanted at most 1"):
        await downstream.publish_jwt_authority(core, await caller(core), "k2", der(), 0)
    await downstream.publish_jwt_authority(core, await caller(core), "k", good, 0)


async def test_an_id_of_a_server_below_that_is_no_uuid_gets_no_ca(core: Core) -> None:
    await register(core)
    accepted = await caller(core)
    for below in ("x", ONE.upper(), f"{ONE}0"):
        with pytest.raises(RequestError, match="^ID of the server below: wanted a UUID, got '"):
            await downstream.new_downstream_ca(
                core, accepted, csr(ec.generate_private_key(ec.SECP256R1())), below=below
            )
    made = await downstream.new_downstream_ca(core, accepted, csr(ec.generate_private_key(ec.SECP256R1())), below=ONE)
    async with core.database.read() as tx:
        [row] = await issuances.list_issuances(tx, 0, 10, serial=format_serial(made.chain[0]))
    assert row.below == ONE


async def test_the_ca_of_a_downstream_server_is_in_the_record_the_log_and_the_audit_trail(core: Core) -> None:
    made = await register(core)
    key = ec.generate_private_key(ec.SECP256R1())
    await downstream.new_downstream_ca(core, await caller(core), csr(key))
    async with core.database.read() as tx:
        page = await issuances.list_issuances(tx, 0, 100)
    [ca] = [one for one in page if one.kind == "ca" and one.entry_id == made]
    assert (ca.spiffe_id, ca.authority) == (TD.id, core.signing.authority.id)
    assert ca.log_index is not None
    async with core.database.read() as tx:
        trail = b"".join(one.record for one in await audit.list_audit(tx, 0, 100))
    assert b"sign downstream CA" in trail
