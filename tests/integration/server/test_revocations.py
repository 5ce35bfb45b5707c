"""Revocation on a server: what each command refuses, what agents are sent, what readmission gives back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import BundleSet
from meshtls.errors import AccessError, ConfigError, ConflictError, NotFoundError, RequestError, RevokedError
from meshtls.observe.audit import AuditRecord
from meshtls.registration import Entry, spire_server_id
from meshtls.revocation.building import CrlEntry
from meshtls.revocation.crl import parse_crl
from meshtls.revocation.lists import revocations_of
from meshtls.revocation.ocsp import OCSP_GOOD
from meshtls.rpc.shedding import Refusals
from meshtls.server import revocation_publishing, revoking
from meshtls.server.access import Caller, ListenerKind, Role
from meshtls.server.core import Core
from meshtls.server.operations.agents import ban_agent, create_join_token, renew_agent
from meshtls.server.operations.attestation import Attestation
from meshtls.server.operations.audit import list_audit
from meshtls.server.operations.entries import create_entries, delete_entries, update_entries
from meshtls.server.operations.revocations import list_revocations, readmit, revoke
from meshtls.server.operations.svids import mint_x509, sign_x509
from meshtls.server.operations.sync import sync
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.revocation_upkeep import keep_revocations
from meshtls.server.settings import ServerConfig
from meshtls.server.signing import Signed
from meshtls.server.startup import opened_core
from meshtls.server.store import revocations as stored_revocations
from meshtls.serverapi.values import Revoked, RevokedSvid, Subject, SubjectKind, SyncUpdate
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verify import verify_peer
from meshtls.workload.background import in_background
from tests.support.clock import ManualClock
from tests.support.server import TD, config_for, entry, new_csr
from tests.support.waiting import until

ADMIN = Caller(Role.ADMIN, "uid 0")
WEB, DB = SpiffeId(TD, "/web"), SpiffeId(TD, "/db")
HOLD = "certificate_hold"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config(tmp_path: Path, store_url: URL) -> ServerConfig:
    return config_for(tmp_path, store_url)


@dataclass
class Site:
    """A server, an agent and its two entries, each with an SVID."""

    core: Core
    agent: Caller
    web: Entry
    db: Entry
    web_svid: Signed
    db_svid: Signed

    @property
    def agent_id(self) -> SpiffeId:
        assert self.agent.agent is not None
        return self.agent.agent.spiffe_id

    def subjects(self) -> dict[str, Subject]:
        """What web's SVID can be revoked by."""
        return {
            "serial": Subject(SubjectKind.SERIAL, self.web_svid.record.serial),
            "spiffe-id": Subject(SubjectKind.SPIFFE_ID, str(WEB)),
            "entry": Subject(SubjectKind.ENTRY, self.web.id),
            "agent": Subject(SubjectKind.AGENT, str(self.agent_id)),
        }


@pytest.fixture
async def site(config: ServerConfig, clock: ManualClock) -> AsyncIterator[Site]:
    async with opened_core(config, clock) as (core, _):
        agent = await attested(core)
        assert agent.agent is not None
        me = agent.agent.spiffe_id
        web, db = await create_entries(core, ADMIN, [entry("/web", me), entry("/db", me, "unix:uid:2000")])
        yield Site(core, agent, web, db, *[await signed(core, agent, one) for one in (web, db)])


async def attested(core: Core) -> Caller:
    token = await create_join_token(core, ADMIN)
    made = await Attestation(core, Refusals()).by_token("127.0.0.1", token.token, new_csr())
    peer = verify_peer(ders(made.svid), BundleSet([made.bundle]), core.clock.now())
    return await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer)


async def signed(core: Core, agent: Caller, one: Entry) -> Signed:
    [found] = await sign_x509(core, agent, [(one.id, new_csr())])
    assert isinstance(found, Signed)
    return found


def ders(svid: Signed) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in svid.chain]


def trusted(core: Core) -> Trust:
    """What a workload trusts that has the newest update."""
    return Trust(1, BundleSet([core.hub.bundle]), revocations_of(core.hub.crls))


def refusal(core: Core, svid: Signed) -> str | None:
    try:
        verify_peer(ders(svid), trusted(core), core.clock.now())
    except RevokedError as error:
        return str(error)
    return None


def accepted(core: Core, svid: Signed) -> bool:
    record = svid.record
    told = f"peer {record.spiffe_id}: certificate {record.serial} was revoked by its issuer"
    return {None: True, told: False}[refusal(core, svid)]


async def synced(core: Core, agent: Caller) -> tuple[AsyncGenerator[SyncUpdate], SyncUpdate]:
    updates = sync(core, agent)
    return updates, await anext(updates)


@pytest.mark.parametrize("way", ["serial", "spiffe-id", "entry", "agent"])
async def test_a_revoked_svid_is_refused_and_others_are_accepted(site: Site, way: str) -> None:
    core = site.core
    assert accepted(core, site.web_svid)
    revoked = await revoke(core, ADMIN, site.subjects()[way])
    # The agent has its own SVID, and that of the other entry.
    assert revoked == Revoked(3 if way == "agent" else 1, 0)
    assert not accepted(core, site.web_svid)
    assert accepted(core, site.db_svid) is (way != "agent")


@pytest.mark.parametrize("way", ["spiffe-id", "entry"])
async def test_a_revoked_identity_is_withdrawn_from_its_agent_in_the_message_with_the_crl(site: Site, way: str) -> None:
    core = site.core
    updates, first = await synced(core, site.agent)
    assert (len(first.entries), first.crls) == (2, ())
    await revoke(core, ADMIN, site.subjects()[way])
    told = await anext(updates)
    assert (told.entries, told.removed, told.crls) == ((), (site.web.id,), core.hub.crls)
    [crl] = map(parse_crl, told.crls)
    assert crl.serials == {int(site.web_svid.record.serial, 16)}
    [refused] = await sign_x509(core, site.agent, [(site.web.id, new_csr())])
    assert str(refused) == f"entry {site.web.id}: agent {site.agent_id} may serve no entry with this id"

    await readmit(core, ADMIN, site.subjects()[way])
    told = await anext(updates)
    assert [one.id for one in told.entries] == [site.web.id]
    again = await signed(core, site.agent, site.web)
    assert (accepted(core, again), accepted(core, site.web_svid)) == (True, False)
    await updates.aclose()


async def test_nothing_is_minted_for_a_revoked_id_until_it_is_readmitted(site: Site) -> None:
    core, minted = site.core, await mint_x509(site.core, ADMIN, WEB, new_csr())
    assert await revoke(core, ADMIN, site.subjects()["spiffe-id"]) == Revoked(2, 0)
    assert not accepted(core, minted)
    with pytest.raises(RequestError) as caught:
        await mint_x509(core, ADMIN, WEB, new_csr())
    assert str(caught.value) == f"{WEB}: this ID was revoked; readmit it first: meshtls readmit --spiffe-id"
    await mint_x509(core, ADMIN, DB, new_csr())
    await readmit(core, ADMIN, site.subjects()["spiffe-id"])
    assert accepted(core, await mint_x509(core, ADMIN, WEB, new_csr()))


async def test_an_entry_made_for_a_revoked_id_is_not_served(site: Site) -> None:
    core = site.core
    await revoke(core, ADMIN, site.subjects()["spiffe-id"])
    [other] = await create_entries(core, ADMIN, [entry("/web", site.agent_id, "unix:uid:3000")])
    [refused] = await sign_x509(core, site.agent, [(other.id, new_csr())])
    assert not isinstance(refused, Signed)
    await readmit(core, ADMIN, site.subjects()["spiffe-id"])
    await signed(core, site.agent, other)


@pytest.mark.parametrize("way", ["serial", "spiffe-id", "entry"])
async def test_an_svid_on_hold_is_accepted_again_once_it_is_readmitted(site: Site, way: str) -> None:
    core, subject = site.core, site.subjects()[way]
    await revoke(core, ADMIN, subject, HOLD)
    assert not accepted(core, site.web_svid)
    assert await readmit(core, ADMIN, subject) == Revoked(1, 0)
    assert accepted(core, site.web_svid)
    assert not core.hub.crls


async def test_a_serial_that_was_revoked_for_good_is_not_readmitted(site: Site) -> None:
    core, subject = site.core, site.subjects()["serial"]
    await revoke(core, ADMIN, subject, "key_compromise")
    with pytest.raises(RequestError) as caught:
        await readmit(core, ADMIN, subject)
    assert str(caught.value) == (
        f"{subject}: wanted a certificate that was revoked with certificate_hold, got one that was revoked for good"
        " (key_compromise); its agent requests another one in its place"
    )
    assert not accepted(core, site.web_svid)


async def test_a_serial_is_found_as_openssl_writes_it(site: Site) -> None:
    digits = site.web_svid.record.serial.upper()
    written = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    assert await revoke(site.core, ADMIN, Subject(SubjectKind.SERIAL, written)) == Revoked(1, 0)


async def test_deleting_an_entry_revokes_what_was_issued_for_it(site: Site) -> None:
    await delete_entries(site.core, ADMIN, [site.web.id])
    assert (accepted(site.core, site.web_svid), accepted(site.core, site.db_svid)) == (False, True)


@pytest.mark.parametrize(("change", "kept"), [("spiffe_id", False), ("parent_id", False), ("hint", True)])
async def test_changing_whom_an_entry_names_revokes_what_was_issued_for_it(site: Site, change: str, kept: bool) -> None:
    values = {"spiffe_id": SpiffeId(TD, "/other"), "parent_id": SpiffeId(TD, "/elsewhere"), "hint": "h"}
    changed = {name: getattr(site.web, name) for name in Entry.__dataclass_fields__} | {change: values[change]}
    await update_entries(site.core, ADMIN, [Entry(**changed)])
    assert accepted(site.core, site.web_svid) is kept


async def test_a_banned_agent_loses_all_that_it_has_and_another_agent_nothing(site: Site) -> None:
    core, other = site.core, await attested(site.core)
    assert other.agent is not None
    [theirs] = await create_entries(core, ADMIN, [entry("/theirs", other.agent.spiffe_id)])
    kept = await signed(core, other, theirs)
    updates, _ = await synced(core, site.agent)
    await ban_agent(core, ADMIN, site.agent_id)
    with pytest.raises(AccessError):
        await anext(updates)
    assert [accepted(core, one) for one in (site.web_svid, site.db_svid, kept)] == [False, False, True]


async def test_a_readmitted_agent_may_attest_again(site: Site) -> None:
    core, subject = site.core, site.subjects()["agent"]
    await revoke(core, ADMIN, subject)
    assert site.agent.peer is not None
    await readmit(core, ADMIN, subject)
    # Its certificate stays revoked: the key may be in wrong hands.
    assert not accepted(core, site.web_svid)
    with pytest.raises(AccessError) as caught:
        await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, site.agent.peer)
    assert str(caught.value) == f"agent {site.agent_id} is not attested, or was evicted: attest again"
    assert (await attested(core)).role is Role.AGENT


async def test_an_agent_whose_certificate_was_revoked_is_not_renewed(site: Site) -> None:
    core, peer = site.core, site.agent.peer
    assert peer is not None
    updates, _ = await synced(core, site.agent)
    await revoke(core, ADMIN, Subject(SubjectKind.SERIAL, peer.serial), "key_compromise")
    with pytest.raises(AccessError):
        await anext(updates)
    with pytest.raises(AccessError):
        await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer)


async def test_a_ban_is_not_outrun_by_a_renewal(site: Site) -> None:
    await ban_agent(site.core, ADMIN, site.agent_id)
    with pytest.raises(NotFoundError):
        await renew_agent(site.core, site.agent, new_csr())


async def test_an_svid_that_was_being_signed_when_its_entry_was_revoked_is_never_accepted(site: Site) -> None:
    core = site.core
    requests = [(site.web.id, new_csr()) for _ in range(100)]
    signing = asyncio.ensure_future(sign_x509(core, site.agent, requests))
    await asyncio.sleep(0)
    await revoke(core, ADMIN, site.subjects()["entry"])
    results = [one for one in await signing if isinstance(one, Signed)]
    await core.revoking.catch_up(core.hub.take_revoked())
    assert not any(accepted(core, one) for one in results)


async def test_a_certificate_of_the_intermediate_before_is_revoked_too(site: Site, clock: ManualClock) -> None:
    core = site.core
    clock.advance(12 * 3600 - 60)
    old = await signed(core, site.agent, site.web)
    clock.advance(120)
    new = await signed(core, site.agent, site.web)
    assert old.chain[1] != new.chain[1]
    await revoke(core, ADMIN, Subject(SubjectKind.SERIAL, old.record.serial))
    assert (accepted(core, old), accepted(core, new)) == (False, True)
    await revoke(core, ADMIN, site.subjects()["spiffe-id"])
    assert (accepted(core, old), accepted(core, new)) == (False, False)


async def test_the_crls_survive_a_restart(config: ServerConfig, clock: ManualClock) -> None:
    async with opened_core(config, clock) as (core, _):
        minted = await mint_x509(core, ADMIN, WEB, new_csr())
        await revoke(core, ADMIN, Subject(SubjectKind.SPIFFE_ID, str(WEB)))
        before = core.hub.crls
    async with opened_core(config, clock) as (core, _):
        assert core.hub.crls == before
        assert not accepted(core, minted)
        with pytest.raises(RequestError):
            await mint_x509(core, ADMIN, WEB, new_csr())
        await mint_x509(core, ADMIN, DB, new_csr())


async def test_a_crl_is_gone_when_all_that_it_lists_has_ended(site: Site, clock: ManualClock) -> None:
    core = site.core
    await revoke(core, ADMIN, site.subjects()["serial"])
    clock.advance(3601)
    await core.revoking.catch_up([])
    assert len(core.hub.crls) == 1
    clock.advance(3600)
    await core.revoking.catch_up([])
    assert not core.hub.crls


async def test_an_authority_may_be_made_while_crls_are_signed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, has_any = stored_revocations.revoked_certificates, stored_revocations.has_revoked

    async def listed_meanwhile(tx: AsyncConnection, kinds: Collection[str], *more: Any) -> list[CrlEntry]:
        site.core.authorities.keys.new("x509")  # as ``prepare`` does, in a thread, before its transaction
        return await listed(tx, kinds, *more)

    async def has_any_meanwhile(tx: AsyncConnection, authority_id: str, server_id: str, now: datetime) -> bool:
        site.core.authorities.keys.new("x509")
        await has_any(tx, authority_id, server_id, now)
        return False  # so that the next authority is looked at too

    monkeypatch.setattr(stored_revocations, "revoked_certificates", listed_meanwhile)
    monkeypatch.setattr(stored_revocations, "has_revoked", has_any_meanwhile)
    await revoke(site.core, ADMIN, site.subjects()["serial"])
    await site.core.revoking.catch_up([])
    assert not accepted(site.core, site.web_svid)
    assert accepted(site.core, site.db_svid)


@contextmanager
def token_gone() -> Iterator[None]:
    """As build_crl raises while the intermediates' keys are in a token that is gone."""

    def unsigned(*args: object, **more: object) -> bytes:
        raise ConfigError("the token is gone")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(revoking, "build_crl", unsigned)
        yield


@pytest.mark.parametrize("way", ["serial", "spiffe-id", "entry", "agent"])
async def test_a_revocation_stands_where_its_crl_can_not_be_signed_at_present(site: Site, way: str) -> None:
    core, subject = site.core, site.subjects()[way]
    with token_gone():
        with pytest.raises(ConfigError) as told:
            await revoke(core, ADMIN, subject)
        assert str(told.value) == (
            f"{subject} is revoked, and nothing more is issued for it, but what was issued is still accepted: this"
            " server can't sign its CRL, and tries again every second: the token is gone"
        )
        subjects = core.hub.take_revoked()
        with pytest.raises(ConfigError, match=r"^the token is gone$"):
            await core.revoking.catch_up(subjects)
    blocks, svids = await list_revocations(core, ADMIN)
    assert [one.subject for one in blocks] == ([subject] if way in ("spiffe-id", "entry") else [])
    assert site.web_svid.record.serial in {one.serial for one in svids}
    assert accepted(core, site.web_svid)
    await core.revoking.catch_up(subjects)
    assert not accepted(core, site.web_svid)


async def test_an_entry_is_deleted_and_an_agent_banned_where_the_crl_can_not_be_signed(site: Site) -> None:
    with token_gone():
        await delete_entries(site.core, ADMIN, [site.web.id])
        await ban_agent(site.core, ADMIN, site.agent_id)
    await site.core.revoking.catch_up(site.core.hub.take_revoked())
    assert not accepted(site.core, site.web_svid)
    assert not accepted(site.core, site.db_svid)


async def test_a_server_signs_at_its_start_what_was_revoked_before(
    config: ServerConfig, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened_core(config, clock) as (core, _):
        minted = await mint_x509(core, ADMIN, WEB, new_csr())
        with token_gone(), pytest.raises(ConfigError, match="is revoked, and nothing more is issued"):
            await revoke(core, ADMIN, Subject(SubjectKind.SPIFFE_ID, str(WEB)))
    async with opened_core(config, clock) as (core, identity):
        assert accepted(core, minted)
        with token_gone():
            keeping = asyncio.create_task(keep_revocations(core, identity))
            await until(lambda: "CRLs can't be signed, retrying: the token is gone" in caplog.text)
            await clock.until_sleepers()
        clock.advance(2)
        await until(lambda: not accepted(core, minted))
        await until(lambda: "CRLs are signed again after 1 failures" in caplog.text)
        keeping.cancel()


async def test_crl_numbers_increase(site: Site) -> None:
    numbers = []
    for one in (site.web_svid, site.db_svid):
        await revoke(site.core, ADMIN, Subject(SubjectKind.SERIAL, one.record.serial))
        [crl] = map(parse_crl, site.core.hub.crls)
        numbers.append(crl.number or 0)
    assert 0 < numbers[0] < numbers[1]


async def test_revocations_are_listed_with_their_reasons(site: Site) -> None:
    await revoke(site.core, ADMIN, site.subjects()["spiffe-id"], "key_compromise")
    blocks, svids = await list_revocations(site.core, ADMIN)
    assert [(one.subject, one.reason) for one in blocks] == [(site.subjects()["spiffe-id"], "key_compromise")]
    assert [(one.serial, one.reason) for one in svids] == [(site.web_svid.record.serial, "key_compromise")]
    assert isinstance(svids[0], RevokedSvid)
    assert await list_revocations(site.core, ADMIN, svids[0].number) == ([], [])


@pytest.mark.parametrize(
    ("subject", "kind", "message"),
    [
        (
            Subject(SubjectKind.SERIAL, "ab"),
            NotFoundError,
            "serial ab: no SVID on record has it",
        ),
        (Subject(SubjectKind.SERIAL, "x"), RequestError, "wanted a serial in hexadecimal, got 'x'"),
        (
            Subject(SubjectKind.SPIFFE_ID, "spiffe://other.test/web"),
            RequestError,
            "spiffe://other.test/web: this server issues for example.org only",
        ),
        (
            Subject(SubjectKind.SPIFFE_ID, "spiffe://example.org/meshtls/agent/x/y"),
            RequestError,
            "spiffe://example.org/meshtls/agent/x/y: this is an agent's ID; revoke it as an agent",
        ),
        (
            Subject(SubjectKind.SPIFFE_ID, "spiffe://example.org/meshtls/server"),
            RequestError,
            "spiffe://example.org/meshtls/server: wanted a workload's ID; to replace the server's keys, see meshtls"
            " authority",
        ),
        (
            Subject(SubjectKind.AGENT, "spiffe://example.org/nobody"),
            NotFoundError,
            "agent spiffe://example.org/nobody: no agent has this ID",
        ),
        (Subject(SubjectKind.ENTRY, "none"), NotFoundError, "entry none: no entry has this id"),
    ],
)
async def test_a_subject_that_can_not_be_revoked_is_refused_with_the_reason(
    site: Site, subject: Subject, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        await revoke(site.core, ADMIN, subject)
    assert str(caught.value) == message
    assert accepted(site.core, site.web_svid)


async def test_a_reason_that_no_svid_can_have_is_refused(site: Site) -> None:
    with pytest.raises(RequestError) as caught:
        await revoke(site.core, ADMIN, site.subjects()["serial"], "ca_compromise")
    assert str(caught.value) == (
        "reason: wanted one of unspecified, key_compromise, affiliation_changed, superseded, cessation_of_operation,"
        " certificate_hold, privilege_withdrawn, got 'ca_compromise'"
    )


async def test_an_intermediate_is_not_revoked_by_its_serial(site: Site) -> None:
    serial = f"{site.web_svid.chain[1].serial_number:032x}"
    with pytest.raises(RequestError) as caught:
        await revoke(site.core, ADMIN, Subject(SubjectKind.SERIAL, serial.lstrip("0")))
    assert "wanted an SVID or the CA of a downstream server, got an intermediate CA" in str(caught.value)


@pytest.mark.parametrize("way", ["serial", "spiffe-id", "entry"])
async def test_revoking_twice_says_so(site: Site, way: str) -> None:
    await revoke(site.core, ADMIN, site.subjects()[way])
    with pytest.raises(ConflictError):
        await revoke(site.core, ADMIN, site.subjects()[way])


async def test_readmitting_a_serial_that_is_not_revoked_or_not_known_says_so(site: Site) -> None:
    held = site.subjects()["serial"]
    unknown = Subject(SubjectKind.SERIAL, "0" * 31 + "1")
    with pytest.raises(RequestError) as caught:
        await readmit(site.core, ADMIN, held)
    assert str(caught.value) == f"{held}: it is not revoked; see `meshtls revoked`"
    with pytest.raises(NotFoundError) as missing:
        await readmit(site.core, ADMIN, unknown)
    assert str(missing.value).endswith(": no SVID on record has it")
    await revoke(site.core, ADMIN, held, HOLD)
    assert await readmit(site.core, ADMIN, held) == Revoked(1, 0)


@pytest.mark.parametrize("way", ["serial", "spiffe-id", "entry", "agent"])
async def test_the_trail_has_the_state_before_and_after_a_revocation_and_a_readmission(site: Site, way: str) -> None:
    core, subject = site.core, site.subjects()[way]
    await revoke(core, ADMIN, subject, HOLD)
    await readmit(core, ADMIN, subject)
    lines, _ = await list_audit(core, ADMIN)
    revoked, readmitted = (AuditRecord.parse(line.record) for line in lines[-2:])
    assert (revoked.act, readmitted.act) == (f"revoke {way}", f"readmit {way}")
    name = "banned" if way == "agent" else "revoked"
    assert [(one.before or {})[name] for one in (revoked, readmitted)] == [False, True]
    assert [(one.after or {})[name] for one in (revoked, readmitted)] == [True, False]
    assert (revoked.after or {})["reason"] == HOLD


@pytest.mark.parametrize("way", ["spiffe-id", "entry", "agent"])
async def test_readmitting_a_subject_that_is_not_revoked_says_so(site: Site, way: str) -> None:
    with pytest.raises(NotFoundError):
        await readmit(site.core, ADMIN, site.subjects()[way])


async def test_each_of_the_servers_own_svids_is_replaced_once_it_is_revoked(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with opened_core(config, clock) as (core, identity):
        as_spire = ServerIdentity(TD, core.signing, core.ledger, clock, spiffe_id=spire_server_id(TD))
        await as_spire.renew()
        for one, other in ((as_spire, identity), (identity, as_spire)):
            before, kept = serial_of(one), serial_of(other)
            await revoke(core, ADMIN, Subject(SubjectKind.SERIAL, before), "key_compromise")
            async with in_background(keep_revocations(core, identity, as_spire), "follow revocations"):
                await clock.until_sleepers()
            assert (serial_of(one) != before, serial_of(other)) == (True, kept)


def serial_of(identity: ServerIdentity) -> str:
    assert identity.svid is not None
    return identity.svid.serial


async def test_ocsp_answers_for_an_issuer_that_ends_while_the_store_is_asked(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with opened_core(config, clock) as (core, _):
        lookup = revocation_publishing._Lookup(core)
        leaf, issuer = (await mint_x509(core, ADMIN, WEB, new_csr())).chain
        [signer] = [one for one in lookup.signers() if one.certificate == issuer]
        asked = asyncio.create_task(lookup.state(signer, leaf.serial_number))
        await asyncio.sleep(0)
        core.authorities.keys.drop("x509", core.signing.authority.id)
        assert lookup.signers() == []
        assert await asked == OCSP_GOOD
