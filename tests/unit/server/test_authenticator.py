"""Authentication per listener: each refusal beside an admitted call that differs in one thing only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.leaf import Leaf, LeafKind
from meshtls.errors import AccessError, ValidityError
from meshtls.registration import AgentRecord, Issuance
from meshtls.server.access import Authenticator, Caller, ListenerKind, Role
from meshtls.server.hub import Hub
from meshtls.server.store import agents, entries, issuances, transparency
from meshtls.server.store.address import sqlite_url
from meshtls.server.store.database import Database, run_steps
from meshtls.server.store.migrate import migrate
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import fingerprint_of, format_serial, spiffe_id_of
from tests.support.certs import NOW, Issued, ca, leaf
from tests.support.clock import ManualClock
from tests.support.server import entry

TD = TrustDomain("example.org")
AGENT = SpiffeId(TD, "/meshtls/agent/join_token/1")
ADMIN, BELOW, WEB = (SpiffeId(TD, path) for path in ("/admin", "/below", "/web"))
ROLES = {AGENT: Role.AGENT, ADMIN: Role.ADMIN, BELOW: Role.DOWNSTREAM}
ROOT = ca()
INTERMEDIATE = ca(ROOT, slot="intermediate", name="intermediate")
#: A CA with the serial and the name of the intermediate, and a key of its own.
FORGED = ca(ROOT, slot="below", name="intermediate")
SECOND = timedelta(seconds=1)


def peer(spiffe_id: SpiffeId, *, ends: datetime = NOW + SECOND, serial: int = 1) -> VerifiedPeer:
    return presented(leaf(INTERMEDIATE, str(spiffe_id), not_after=ends, serial=serial), INTERMEDIATE)


def presented(*chain: Issued) -> VerifiedPeer:
    """What this chain proves, leaf first."""
    certificates = tuple(one.certificate for one in chain)
    return VerifiedPeer(spiffe_id_of(certificates[0]), certificates)


PRESENT, NEXT, OTHER = (peer(AGENT, serial=serial) for serial in (2, 3, 4))
RECORD = AgentRecord(
    spiffe_id=AGENT, type="join_token", serials=(PRESENT.serial,), not_after=NOW + SECOND, attested_at=NOW
)


@dataclass
class House:
    """An authenticator over a store with an admin entry and one agent, whose next certificate is issued."""

    authenticator: Authenticator
    database: Database

    async def serials(self) -> tuple[str, ...]:
        async with self.database.read() as tx:
            found = await agents.find_agent(tx, AGENT)
        assert found is not None
        return found.serials


async def record_intermediate(tx: AsyncConnection) -> None:
    """As the ledger of a server does with the first SVID of its intermediate."""
    certificate, name = INTERMEDIATE.certificate, TD.id
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    row = Issuance(
        kind="ca",
        serial=format_serial(certificate),
        spiffe_id=name,
        server_id="1",
        issued_at=begins,
        not_before=begins,
        not_after=ends,
        log_index=0,
    )
    kind, digest = LeafKind.X509_INTERMEDIATE, fingerprint_of(certificate)
    entry = bytes(Leaf(kind=kind, spiffe_id=str(name), serial=row.serial, digest=digest, server_id="1"))
    await transparency.create_state(tx, "log")
    after, nodes = Frontier().append([leaf_hash(entry)])
    await run_steps(tx, transparency.append_steps(Frontier(), [entry], after, nodes))
    await issuances.record_issuances(tx, [row])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database, clock = Database(sqlite_url(tmp_path / "store.sqlite3")), ManualClock(NOW)
    await migrate(database)
    async with database.write() as tx:
        await agents.put_agent(tx, RECORD)
        await agents.renew_agent(tx, AGENT, NEXT.serial, NOW + SECOND)
        below = entry("/below", AGENT, downstream=True)
        await entries.insert_entries(tx, [entry("/admin", AGENT, admin=True), below, entry("/web", AGENT)])
        await record_intermediate(tx)
    hub = Hub(TD, database, clock, lambda _: None)
    await hub.load()
    yield House(Authenticator(hub, database, clock), database)
    await database.close()


async def test_every_caller_of_the_attestation_port_is_anonymous(house: House) -> None:
    for who in (None, PRESENT, peer(ADMIN)):
        assert await house.authenticator.authenticate(ListenerKind.ATTESTATION, who, 0) == Caller(
            Role.ANONYMOUS, "a node that attests"
        )


@pytest.mark.parametrize("uid", sorted({0, os.geteuid()}))
async def test_root_and_the_servers_own_user_are_administrators_on_the_socket(house: House, uid: int) -> None:
    assert await house.authenticator.authenticate(ListenerKind.ADMIN_SOCKET, None, uid) == Caller(
        Role.ADMIN, f"uid {uid}", credential="the admin socket"
    )


@pytest.mark.parametrize("uid", [None, os.geteuid() + 1])
async def test_every_other_user_of_the_socket_is_refused_whatever_it_presents(house: House, uid: int | None) -> None:
    with pytest.raises(AccessError) as refused:
        await house.authenticator.authenticate(ListenerKind.ADMIN_SOCKET, peer(ADMIN), uid)
    own = os.geteuid()
    message = f"uid {uid}: only root and the user that runs the server (uid {own}) administer it"
    assert str(refused.value) == message


async def test_an_identity_whose_entry_is_marked_admin_is_an_administrator_over_mutual_tls(house: House) -> None:
    assert await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer(ADMIN)) == Caller(
        Role.ADMIN, str(ADMIN), credential=f"X509-SVID {peer(ADMIN).serial}"
    )


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (None, "wanted a verified client certificate, got none"),
        (peer(WEB), f"{WEB}: wanted an agent, or an identity whose entry is marked admin or downstream"),
        (OTHER, f"agent {AGENT}: certificate {OTHER.serial} is not its present one; attest again"),
    ],
    ids=["no certificate", "a workload that is no administrator", "an agent's certificate that was replaced"],
)
async def test_over_mutual_tls_every_other_caller_is_refused(
    house: House, who: VerifiedPeer | None, message: str
) -> None:
    with pytest.raises(AccessError) as refused:
        await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, who, 0)
    assert str(refused.value) == message


@pytest.mark.parametrize("spiffe_id", [AGENT, ADMIN])
@pytest.mark.parametrize("ends", [NOW, NOW - SECOND])
async def test_a_certificate_that_ends_now_has_ended_on_an_open_connection_too(
    house: House, spiffe_id: SpiffeId, ends: datetime
) -> None:
    who = peer(spiffe_id, ends=ends)
    with pytest.raises(ValidityError) as refused:
        await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, who)
    assert str(refused.value) == (
        f"{spiffe_id}: your certificate {who.serial} expired at {ends:%Y-%m-%dT%H:%M:%SZ};"
        f" our clock says {NOW:%Y-%m-%dT%H:%M:%SZ}; connect again with a newer one"
    )


@pytest.mark.parametrize("spiffe_id", [AGENT, ADMIN, BELOW])
@pytest.mark.parametrize(("above", "issuer"), [((FORGED,), "CA abc123"), ((), "a root")], ids=["another CA", "a root"])
async def test_a_certificate_gives_a_role_only_below_an_intermediate_of_this_store(
    house: House, spiffe_id: SpiffeId, above: tuple[Issued, ...], issuer: str
) -> None:
    signer = above[0] if above else ROOT
    serial = int(PRESENT.serial, 16)
    who = presented(leaf(signer, str(spiffe_id), not_after=NOW + SECOND, serial=serial), *above)
    assert who.serial == PRESENT.serial
    for _ in range(2):  # before and after the intermediate is known from a call
        with pytest.raises(AccessError) as refused:
            await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, who)
        assert str(refused.value) == (
            f"{spiffe_id}: wanted a certificate that a server of this data store has issued, got {PRESENT.serial} of"
            f" {issuer}; get one from an agent of this server, or mint one here"
        )
        good = await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer(spiffe_id, serial=serial))
        assert good.role is ROLES[spiffe_id]


async def test_an_agent_is_authenticated_with_its_record(house: House) -> None:
    known = replace(RECORD, serials=(PRESENT.serial, NEXT.serial))
    assert await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, PRESENT) == Caller(
        Role.AGENT, str(AGENT), known, PRESENT, f"X509-SVID {PRESENT.serial}"
    )
    assert await house.serials() == (PRESENT.serial, NEXT.serial)


async def test_an_agents_old_certificate_is_refused_once_the_next_one_was_used(house: House) -> None:
    assert (await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, NEXT)).role is Role.AGENT
    assert await house.serials() == (NEXT.serial,)
    with pytest.raises(AccessError, match=f"certificate {PRESENT.serial} is not its present one"):
        await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, PRESENT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (agents.ban_agent, f"agent {AGENT} is banned"),
        (agents.evict_agent, f"agent {AGENT} is not attested, or was evicted: attest again"),
    ],
    ids=["banned", "evicted"],
)
async def test_a_banned_or_evicted_agent_is_refused(house: House, change: object, message: str) -> None:
    assert callable(change)
    assert (await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, PRESENT)).role is Role.AGENT
    async with house.database.write() as tx:
        await change(tx, AGENT)
    with pytest.raises(AccessError) as refused:
        await house.authenticator.authenticate(ListenerKind.MUTUAL_TLS, PRESENT)
    assert str(refused.value) == message


def test_a_caller_is_an_agent_with_its_record_and_its_certificate_only() -> None:
    assert Caller(Role.AGENT, "a", RECORD, PRESENT).as_agent() == (RECORD, PRESENT)
    for record, certificate in ((None, PRESENT), (RECORD, None), (None, None)):
        with pytest.raises(AccessError, match=r"^permission denied: a is not an agent$"):
            Caller(Role.AGENT, "a", record, certificate).as_agent()
